//! ControlNow: what a control stream would have told, for a daemon that has none.

use proto::transport::Transport;
use proto::v1::{ControlNowReply, ControlRequest};
use tonic::Status;

use crate::auth::{Daemon, key_deleted};
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::Drain;

/// Answers at once.
pub async fn answer<S: Store>(
    shared: &Shared<S>,
    daemon: Daemon,
    request: ControlRequest,
) -> Result<ControlNowReply, Status> {
    let contact = super::introduced(&daemon, request, Transport::Unary)?;
    let opened = shared.store.poll_control(contact.clone()).await;
    let opened = opened.map_err(key_deleted)?;
    // A proxy may hold a stream open here that its daemon has left long ago.
    shared.controls.supersede(&contact);
    shared.counters.polled();
    Ok(ControlNowReply {
        draining: opened.drain == Drain::On,
        cancels: opened.cancels,
    })
}
