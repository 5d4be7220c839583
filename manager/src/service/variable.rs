//! Variables and cluster settings.

use api::proto::variables_server::Variables;
use api::{Code, Error, proto as pb};
use model::Change;
use tonic::{Request, Response};

use super::{Answered, Service, principal, role};

/// Limit of the key and the value of a variable.
const LARGEST_VARIABLE: usize = 64 * 1024;

#[tonic::async_trait]
impl Variables for Service {
    async fn set(&self, request: Request<pb::SetVariableRequest>) -> Answered<pb::Done> {
        let (by, role) = (principal(&request), role(&request));
        let request = request.into_inner();
        if request.key.is_empty() || request.key.len() + request.value.len() > LARGEST_VARIABLE {
            return Err(Error::new(Code::Invalid, "a variable needs a name, and has at most 64 KiB").into());
        }
        if request.key.starts_with(model::state::RESERVED) && role < model::Role::Admin {
            return Err(Error::new(Code::Forbidden, format!("`{}` requires the role admin", request.key))
                .remedy("log in with a token of that role; nothing was changed")
                .into());
        }
        let id = api::request_id(&request.request_id)?;
        let change = Change::SetVariable { key: request.key, value: request.value };
        self.propose(id, &by, change).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn get(&self, request: Request<pb::GetVariableRequest>) -> Answered<pb::Variable> {
        let key = request.into_inner().key;
        let state = self.read().await?.state;
        match state.variables.get(&key) {
            Some(variable) => {
                Ok(Response::new(pb::Variable { value: variable.value.to_string(), index: variable.index.0 }))
            }
            None => Err(Error::new(Code::NotFound, format!("variable `{key}` not found")).into()),
        }
    }
}
