//! `infrakit login`: access to a remote cluster.

use api::{CertificateRequest, Client, Code, proto as pb, tls};
use clap::Args;

use super::addresses;
use super::token::TokenArg;
use crate::contexts::{self, Context};
use crate::global::Global;
use crate::output;
use crate::report::Failure;

#[derive(Args)]
pub(crate) struct Login {
    /// Managers: HOST:PORT[,HOST:PORT...]
    pub(crate) managers: String,
    #[command(flatten)]
    pub(crate) token: TokenArg,
    /// The user name to record for your actions [default: $USER]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The name of the context to save
    #[arg(long = "as", value_name = "CONTEXT", default_value = "default")]
    pub(crate) context: String,
}

pub(crate) async fn run(login: Login, global: &Global) -> Result<u8, Failure> {
    let remedy =
        "give --token-file FILE, --token, or INFRAKIT_TOKEN, with what `infrakit token create` printed";
    let none = |why: String| Failure::usage("no token to log in with").cause(why).remedy(remedy);
    let given = login.token.given().map(|from| from.read()).transpose().map_err(none)?;
    let token = given.flatten().ok_or_else(|| none("no token was given".into()))?;
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let name =
        login.name.or(user).ok_or_else(|| Failure::usage("the user name is not known: give --name"))?;
    let no_key = |error: api::BadCertificate| Failure::new(error.to_string());
    let request = CertificateRequest::new().map_err(no_key)?;
    let managers = addresses(&login.managers)?;
    let tls = tls::newcomer(token.authority).map_err(no_key)?;
    let asked = pb::LoginRequest {
        secret: token.secret.expose().to_vec(),
        name: name.clone(),
        csr: request.der().to_vec(),
    };
    let reply = Client::with_tls(&managers, Some(tls))?
        .one_at_a_time()
        .call(async |c| c.access().login(asked.clone()).await)
        .await;
    let reply = reply.map_err(|error| match error.code {
        // The default remedy, to log in, does not help here.
        Code::Forbidden => Failure::from(error).remedy("ask an admin of the cluster for another token"),
        _ => Failure::from(error),
    })?;
    let credentials = request.granted(reply.certificate, reply.trusted).to_pem();
    let context =
        Context { managers: login.managers, user: name.clone(), role: reply.role.clone(), credentials };
    let file = contexts::save(&login.context, &context)?;
    output::done(
        global.output,
        &format!(
            "logged in as {name} with the role {}; saved as context `{}` in {}",
            reply.role,
            login.context,
            file.display()
        ),
    )?;
    Ok(0)
}
