//! Secrets: set, listed without their values, removed.

use api::proto::secrets_server::Secrets;
use api::{Code, Error, proto as pb};
use model::access::Secret;
use model::secret::{LARGEST, SecretName};
use model::{Actor, Change};
use tonic::{Request, Response};

use super::{Answered, Service, principal};

fn name(text: &str) -> Result<SecretName, Error> {
    SecretName::check(text).map_err(|why| Error::new(Code::Invalid, why).remedy("nothing was changed"))
}

#[tonic::async_trait]
impl Secrets for Service {
    async fn set(&self, request: Request<pb::SetSecretRequest>) -> Answered<pb::Done> {
        let by = principal(&request);
        self.set_secret_now(request.into_inner(), &by).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn remove(&self, request: Request<pb::RemoveSecretRequest>) -> Answered<pb::Done> {
        let by = principal(&request);
        self.remove_secret_now(request.into_inner(), &by).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn list(&self, _: Request<pb::ListSecretsRequest>) -> Answered<pb::SecretList> {
        Ok(Response::new(self.secrets().await?))
    }
}

impl Service {
    pub(super) async fn set_secret_now(
        &self,
        request: pb::SetSecretRequest,
        by: &Actor,
    ) -> Result<(), Error> {
        let id = api::request_id(&request.request_id)?;
        let name = name(&request.name)?;
        let invalid = |what: String| Error::new(Code::Invalid, what).remedy("nothing was changed");
        let text = std::str::from_utf8(&request.value);
        // It is substituted within texts.
        let text = text.map_err(|_| invalid(format!("the value of secret `{name}` is not valid UTF-8")))?;
        if text.is_empty() || text.len() > LARGEST || text.contains('\0') {
            return Err(invalid(format!("a secret must have 1 to {LARGEST} bytes, none of them 0")));
        }
        let value = Secret::new(request.value);
        self.propose(id, by, Change::SetSecret { name, value }).await.map(drop)
    }

    pub(super) async fn remove_secret_now(
        &self,
        request: pb::RemoveSecretRequest,
        by: &Actor,
    ) -> Result<(), Error> {
        let id = api::request_id(&request.request_id)?;
        self.propose(id, by, Change::RemoveSecret { name: name(&request.name)? }).await.map(drop)
    }

    pub(super) async fn secrets(&self) -> Result<pb::SecretList, Error> {
        let state = self.read().await?.state;
        let secrets = state.secrets.iter().map(|(name, it)| pb::Secret {
            name: name.as_str().to_owned(),
            set_ms: it.at.0,
            by: it.by.clone(),
        });
        Ok(pb::SecretList { secrets: secrets.collect() })
    }
}
