//! A transport with a switch and with weather: what a dead process sends never arrives, and nodes
//! are cut off.

use super::weather::Weather;
use firepond_core::buffer::BufferPool;
use firepond_core::sys::clock::{now, sleep_until};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::{
    Connection, Handler, Listener, PeerAddress, Reply, Request, Transport,
};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long it takes to notice that a peer does not answer any more.
const SILENCE: Duration = Duration::from_secs(1);

/// Another transport behind a switch.
pub struct GatedTransport {
    pub inner: Arc<dyn Transport>,
    pub open: watch::Receiver<bool>,
    pub name: String,
    pub weather: Weather,
}

struct GatedConnection {
    inner: Arc<dyn Connection>,
    open: watch::Receiver<bool>,
    name: String,
    weather: Weather,
}

impl Transport for GatedTransport {
    fn connect(&self, address: &PeerAddress) -> Arc<dyn Connection> {
        Arc::new(GatedConnection {
            inner: self.inner.connect(address),
            open: self.open.clone(),
            name: self.name.clone(),
            weather: self.weather.clone(),
        })
    }

    fn listen<'a>(
        &'a self,
        address: &'a PeerAddress,
        handler: Arc<dyn Handler>,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>>> {
        self.inner.listen(address, handler)
    }

    fn buffers(&self) -> &BufferPool {
        self.inner.buffers()
    }

    fn name(&self) -> &'static str {
        "gated"
    }
}

fn lost(why: &str) -> Error {
    Error::new(ErrorKind::PeerUnreachable, why)
}

impl GatedConnection {
    async fn call_through(&self, request: Request) -> Result<Reply> {
        if self.weather.is_cut(&self.name, self.peer()) {
            let until = request.deadline.min(now() + SILENCE);
            sleep_until(until).await;
            return Err(lost("cut off"));
        }
        let mut noted = Request::new(request.kind, request.body.clone(), request.deadline);
        noted.payload = request.payload.clone();
        let reply = self.inner.call(request).await;
        if let Ok(reply) = &reply {
            self.weather.note(&noted, reply);
        }
        if self.weather.is_cut(&self.name, self.peer()) {
            return Err(lost("the reply was lost"));
        }
        reply
    }
}

impl Connection for GatedConnection {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let mut open = self.open.clone();
            tokio::select! {
                biased;
                _ = open.wait_for(|open| !open) => Err(lost("cut off")),
                result = self.call_through(request) => result,
            }
        })
    }

    fn peer(&self) -> &PeerAddress {
        self.inner.peer()
    }
}
