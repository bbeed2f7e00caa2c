//! A port of loopback that a test keeps for a server, which may come and go. Sources include
//! this file by its path.
//!
//! A socket that is bound and does not listen holds it: nobody is given it by chance, who
//! calls it meanwhile is refused, and a server may listen there because both allow reuse
//! (socket(7), `SO_REUSEADDR`).

use tokio::net::TcpSocket;

/// See the module.
#[derive(Debug)]
pub struct Port {
    socket: TcpSocket,
}

impl Port {
    /// One that nobody has.
    pub fn keep() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        let any = ([127, 0, 0, 1], 0).into();
        socket.bind(any).expect("a port");
        Self { socket }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.socket.local_addr().expect("its number").port()
    }
}
