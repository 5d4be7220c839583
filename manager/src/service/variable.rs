//! Variables and cluster settings.

use api::proto::variables_server::Variables;
use api::{Code, Error, proto as pb};
use model::Change;
use model::state::{Variable, setting_defaults};
use tonic::{Request, Response};

use super::{Answered, Service, principal, role};

/// Limit of the key: an error names it, in the headers of an answer.
const LONGEST_KEY: usize = 1024;
/// Limit of the key and the value of a variable.
const LARGEST_VARIABLE: usize = 64 * 1024;

#[tonic::async_trait]
impl Variables for Service {
    async fn set(&self, request: Request<pb::SetVariableRequest>) -> Answered<pb::Done> {
        let (by, role) = (principal(&request), role(&request));
        let request = request.into_inner();
        fits(&request.key, &request.value)?;
        may_change(&request.key, role)?;
        let id = api::request_id(&request.request_id)?;
        let change = Change::SetVariable { key: request.key, value: request.value };
        self.propose(id, &by, change).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn remove(&self, request: Request<pb::RemoveVariableRequest>) -> Answered<pb::Done> {
        let (by, role) = (principal(&request), role(&request));
        let request = request.into_inner();
        fits(&request.key, "")?;
        may_change(&request.key, role)?;
        let id = api::request_id(&request.request_id)?;
        self.propose(id, &by, Change::RemoveVariable { key: request.key }).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn get(&self, request: Request<pb::GetVariableRequest>) -> Answered<pb::Variable> {
        let key = request.into_inner().key;
        let state = self.read().await?.state;
        match state.variables.get(&key) {
            Some(known) => Ok(Response::new(variable(&key, known))),
            None => Err(Error::new(Code::NotFound, format!("variable `{key}` not found"))
                .remedy("`infrakit var ls` lists the variables, and the defaults of the settings")
                .into()),
        }
    }

    async fn list(&self, _: Request<pb::ListVariablesRequest>) -> Answered<pb::VariableList> {
        let state = self.read().await?.state;
        let default = |(key, value): (&str, String)| pb::Variable {
            key: key.to_owned(),
            value,
            index: 0,
            default: true,
        };
        let defaults = setting_defaults().into_iter().filter(|(key, _)| !state.variables.contains_key(*key));
        let mut variables: Vec<pb::Variable> = state
            .variables
            .iter()
            .map(|(key, known)| variable(key, known))
            .chain(defaults.map(default))
            .collect();
        variables.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Response::new(pb::VariableList { variables }))
    }
}

fn fits(key: &str, value: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > LONGEST_KEY || key.len() + value.len() > LARGEST_VARIABLE {
        let what = format!("a variable needs a name of at most {LONGEST_KEY} bytes, and has at most 64 KiB");
        return Err(Error::new(Code::Invalid, what));
    }
    Ok(())
}

/// Cluster settings are changed by admins.
fn may_change(key: &str, role: model::Role) -> Result<(), Error> {
    if key.starts_with(model::state::RESERVED) && role < model::Role::Admin {
        return Err(Error::new(Code::Forbidden, format!("`{key}` requires the role admin"))
            .remedy("log in with a token of that role; nothing was changed"));
    }
    Ok(())
}

fn variable(key: &str, known: &Variable) -> pb::Variable {
    pb::Variable { key: key.to_owned(), value: known.value.to_string(), index: known.index.0, default: false }
}
