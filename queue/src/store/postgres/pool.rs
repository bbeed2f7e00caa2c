//! The capped pool of connections, and what is set up in those that are ours alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod,
};

use super::config::{Tls, Way};
use super::opening;

/// Sessions that are found to be ours alone are set up as such from here on.
#[derive(Debug, Clone, Default)]
pub(super) struct Own(Arc<AtomicBool>);

impl Own {
    /// Connections that were made before are made anew.
    pub(super) fn found(&self, pool: &Pool) {
        self.0.store(true, Ordering::Relaxed);
        pool.retain(|_, _| false);
    }

    fn hook(&self) -> Hook {
        let own = self.0.clone();
        Hook::async_fn(move |client: &mut ClientWrapper, _| {
            let own = own.load(Ordering::Relaxed);
            Box::pin(async move {
                if own {
                    let set = client.batch_execute(&opening::SETUP).await;
                    set.map_err(HookError::Backend)?;
                }
                Ok(())
            })
        })
    }
}

pub(super) fn pool(way: Way, connections: usize, own: &Own) -> Pool {
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match way.tls {
        Tls::Plain(tls) => Manager::from_config(way.config, tls, recycling),
        Tls::Verified(tls) => Manager::from_config(way.config, tls, recycling),
    };
    Pool::builder(manager)
        .max_size(connections.max(1))
        // The one that was used last knows its statements best.
        .queue_mode(QueueMode::Lifo)
        .post_create(own.hook())
        .build()
        .expect("invariant: a pool without timeouts needs nothing")
}
