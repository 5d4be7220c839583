//! A client that knows the managers' addresses and goes on to the next when one does not answer.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};

use crate::credentials::Credentials;
use crate::error::{Code, Error, is_stranger};
use crate::proto::manager_client::ManagerClient;
use crate::{local, tls};

/// Where the managers are: `host:port`, or the path of a local socket, one or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<String>);

/// The largest answer: a group of 100,000 with its slots.
const LARGEST_ANSWER: usize = 64 << 20;

/// How long every address may refuse before the managers are taken for gone: a restart takes less.
const GONE: Duration = Duration::from_secs(4);

/// Between two rounds: a lead that is given away is taken within milliseconds, an election takes longer.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A manager that lives answers a connect at once; the next one is tried after this.
const CONNECT: Duration = Duration::from_secs(1);

impl Addresses {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Reads `host:port[,host:port…]`; a part that begins with `/` is a socket.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parts: Vec<String> =
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if parts.is_empty() {
            return Err(Error::new(Code::Invalid, "no address of a manager is given"));
        }
        for part in &parts {
            let port = part.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if !part.starts_with('/') && port.is_none() {
                return Err(Error::new(Code::Invalid, format!("`{part}` is not an address of a manager"))
                    .remedy("write HOST:PORT[,HOST:PORT...], such as 127.0.0.1:7701"));
            }
        }
        Ok(Self(parts))
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Calls whichever manager answers. A call with a request id is safe to repeat at the next.
#[derive(Clone)]
pub struct Client {
    managers: Vec<(String, ManagerClient<Channel>)>,
    deadline: Duration,
}

impl Client {
    /// How long a call may take altogether, over all managers. An election takes up to two seconds,
    /// and whoever asks while there is none should not have to ask again.
    pub const DEADLINE: Duration = Duration::from_secs(20);

    /// Connects when it is first used. Without credentials, only to managers on this machine.
    pub fn new(addresses: &Addresses, credentials: Option<&Credentials>) -> Result<Self, Error> {
        let unusable = |error| {
            Error::new(Code::Forbidden, "the saved credentials cannot be used").cause(format!("{error}"))
        };
        let config: Option<Arc<ClientConfig>> = credentials.map(tls::client).transpose().map_err(unusable)?;
        Self::with_tls(addresses, config)
    }

    /// As [`Client::new`], with TLS as it is.
    pub fn with_tls(addresses: &Addresses, tls: Option<Arc<ClientConfig>>) -> Result<Self, Error> {
        let managers = addresses
            .0
            .iter()
            .map(|address| {
                let client = ManagerClient::new(channel(address, tls.clone())?)
                    .max_decoding_message_size(LARGEST_ANSWER)
                    .max_encoding_message_size(LARGEST_ANSWER);
                Ok((address.clone(), client))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { managers, deadline: Self::DEADLINE })
    }

    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Makes a call at one manager after another until one gives a real answer, or the time is up.
    ///
    /// Safe to repeat for reads, and for writes that carry a request id.
    pub async fn call<T>(
        &self,
        call: impl AsyncFn(ManagerClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, Error> {
        let mut last = Error::new(Code::Unavailable, "no manager answers");
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let ask_all = async {
            loop {
                let mut all_are_gone = true;
                let mut stranger = None;
                let mut reachable = false;
                for (address, client) in &self.managers {
                    match call(client.clone()).await {
                        Ok(response) => return Ok(response.into_inner()),
                        Err(status) => {
                            let (gone, strange) = (is_refused(&status), is_stranger(&status));
                            all_are_gone &= gone;
                            let error = Error::from(status);
                            if strange {
                                // Another of them may know who asks.
                                stranger = Some(error);
                                continue;
                            }
                            reachable |= !gone;
                            if error.code != Code::Unavailable {
                                return Err(error);
                            }
                            last = Error { cause: format!("{address}: {}", error.cause), ..error };
                        }
                    }
                }
                if let Some(error) = stranger.filter(|_| !reachable) {
                    return Err(error);
                }
                if all_are_gone && began.elapsed() > GONE {
                    return Err(self.in_vain(GONE, last.clone()));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        match tokio::time::timeout(self.deadline, ask_all).await {
            Ok(answer) => answer,
            Err(_) => Err(self.in_vain(self.deadline, last)),
        }
    }

    fn in_vain(&self, waited: Duration, last: Error) -> Error {
        let asked: Vec<&str> = self.managers.iter().map(|(address, _)| address.as_str()).collect();
        Error {
            what: format!("no manager answered within {waited:?}"),
            cause: format!("asked {}; the last said: {}", asked.join(", "), last.cause),
            remedy: "start a majority of the managers, or name others with --host".into(),
            ..last
        }
    }
}

/// Whether nobody listens there, which a manager that lives never shows.
fn is_refused(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
        }
        cause = error.source();
    }
    false
}

/// A stream of bytes to a manager.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens a stream to the manager at `address`: through its socket when it runs on this machine and belongs to
/// the same user, which proves who asks; otherwise with TLS, when it is known how.
pub async fn reach(address: &str, tls: Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Stream>> {
    if address.starts_with('/') {
        return Ok(Box::new(UnixStream::connect(address).await?));
    }
    let mut absent = None;
    if let Some(socket) = local::socket_of(address) {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => absent = Some(error),
        }
    }
    if let Some(tls) = tls {
        return Ok(Box::new(tls::connect(address, tls).await?));
    }
    match absent {
        Some(error) => Err(error),
        None => {
            // Nobody there is another trouble than nobody known.
            drop(TcpStream::connect(address).await?);
            Err(io::Error::new(
                ErrorKind::PermissionDenied,
                format!("there are no credentials for {address}"),
            ))
        }
    }
}

fn channel(address: &str, tls: Option<Arc<ClientConfig>>) -> Result<Channel, Error> {
    let wrong = |error: tonic::transport::Error| {
        Error::new(Code::Invalid, format!("`{address}` is not an address")).cause(error.to_string())
    };
    let endpoint = if address.starts_with('/') {
        Endpoint::from_static("http://local")
    } else {
        Endpoint::from_shared(format!("http://{address}")).map_err(wrong)?
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        // A manager that is stopped while it answers must not hold its callers for ever.
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3));
    let address = address.to_owned();
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (address, tls) = (address.clone(), tls.clone());
        async move { Ok::<_, io::Error>(TokioIo::new(reach(&address, tls).await?)) }
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_or_sockets() {
        let parse = |text: &str| Addresses::parse(text).map(|it| it.0);
        assert_eq!(parse("a:1, b:2"), Ok(vec!["a:1".into(), "b:2".into()]));
        assert_eq!(parse("/run/x.sock"), Ok(vec!["/run/x.sock".into()]));
        for bad in ["", " , ", "host", "host:port", "a:1,b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn when_nobody_answers_the_error_says_who_was_asked() {
        let client = Client::new(&Addresses::parse("127.0.0.1:1,/no/such.sock").expect("addresses"), None)
            .expect("a client");
        let client = client.with_deadline(Duration::from_millis(300));
        let request = crate::proto::StatusRequest {};
        let error = client.call(async |mut c| c.status(request).await).await.expect_err("nobody is there");
        assert_eq!(error.code, Code::Unavailable);
        assert!(error.cause.contains("127.0.0.1:1, /no/such.sock"), "{error:?}");
    }
}
