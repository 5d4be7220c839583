//! Roles, tokens and certificate authorities, to protobuf and back.

use std::sync::Arc;

use model::access::{Authorities, Authority, BadToken, Role, Rotation, Secret, Token, TokenId};
use model::command::NewToken;
use model::{InstanceId, LogIndex, Millis, Timestamp};

use super::Corrupt;
use crate::proto as pb;

fn role(role: Role) -> pb::Role {
    match role {
        Role::Viewer => pb::Role::Viewer,
        Role::Operator => pb::Role::Operator,
        Role::Admin => pb::Role::Admin,
        Role::Manager => pb::Role::Manager,
    }
}

fn from_role(number: i32) -> Result<Role, Corrupt> {
    match pb::Role::try_from(number) {
        Ok(pb::Role::Viewer) => Ok(Role::Viewer),
        Ok(pb::Role::Operator) => Ok(Role::Operator),
        Ok(pb::Role::Admin) => Ok(Role::Admin),
        Ok(pb::Role::Manager) => Ok(Role::Manager),
        Err(odd) => Err(Corrupt(odd.to_string())),
    }
}

pub(super) fn authority(it: &Authority) -> pb::Authority {
    pb::Authority { certificate: it.certificate.to_vec().into(), key: it.key.expose().to_vec().into() }
}

pub(super) fn from_authority(it: pb::Authority) -> Authority {
    Authority { certificate: Arc::from(&it.certificate[..]), key: Secret::new(&it.key[..]) }
}

pub(super) fn rotate(next: &Authority, bridge: &Arc<[u8]>) -> pb::Rotate {
    pb::Rotate { next: Some(authority(next)), bridge: bridge.to_vec().into() }
}

pub(super) fn from_rotate(it: pb::Rotate) -> Result<(Authority, Arc<[u8]>), Corrupt> {
    let next = from_authority(it.next.ok_or_else(|| Corrupt::missing("next"))?);
    Ok((next, Arc::from(&it.bridge[..])))
}

pub(super) fn authorities(it: &Authorities) -> pb::Authorities {
    use pb::authorities::Rotation as Written;
    pb::Authorities {
        signing: Some(authority(&it.signing)),
        rotation: match &it.rotation {
            Rotation::None => None,
            Rotation::Announced { next, bridge } => Some(Written::Announced(rotate(next, bridge))),
            Rotation::Retiring { certificate, bridge } => Some(Written::Retiring(pb::Retiring {
                certificate: certificate.to_vec().into(),
                bridge: bridge.to_vec().into(),
            })),
        },
        changed: it.changed.0,
    }
}

pub(super) fn from_authorities(it: pb::Authorities) -> Result<Authorities, Corrupt> {
    use pb::authorities::Rotation as Written;
    Ok(Authorities {
        signing: from_authority(it.signing.ok_or_else(|| Corrupt::missing("signing"))?),
        rotation: match it.rotation {
            None => Rotation::None,
            Some(Written::Announced(it)) => {
                let (next, bridge) = from_rotate(it)?;
                Rotation::Announced { next, bridge }
            }
            Some(Written::Retiring(it)) => Rotation::Retiring {
                certificate: Arc::from(&it.certificate[..]),
                bridge: Arc::from(&it.bridge[..]),
            },
        },
        changed: LogIndex(it.changed),
    })
}

pub(super) fn new_token(it: &NewToken) -> pb::CreateToken {
    pb::CreateToken {
        id: it.id.as_str().to_owned(),
        role: role(it.role).into(),
        lasts_ms: it.lasts.map(|span| span.0),
        once: it.once,
        instance: it.instance.as_ref().map(InstanceId::to_string),
        replaces: it.replaces.as_ref().map(|id| id.as_str().to_owned()),
    }
}

pub(super) fn from_new_token(it: pb::CreateToken) -> Result<NewToken, Corrupt> {
    Ok(NewToken {
        id: TokenId::new(it.id),
        role: from_role(it.role)?,
        lasts: it.lasts_ms.map(Millis),
        once: it.once,
        instance: it.instance.map(InstanceId::from),
        replaces: it.replaces.map(TokenId::new),
    })
}

pub(super) fn token(id: &TokenId, it: &Token) -> pb::Token {
    pb::Token {
        id: id.as_str().to_owned(),
        role: role(it.role).into(),
        created: it.created.0,
        by: it.by.clone(),
        expires: it.expires.map(|at| at.0),
        once: it.once,
        used: it.used.clone(),
        instance: it.instance.as_ref().map(InstanceId::to_string),
    }
}

pub(super) fn from_token(it: pb::Token) -> Result<(TokenId, Token), Corrupt> {
    let token = Token {
        role: from_role(it.role)?,
        created: Timestamp(it.created),
        by: it.by,
        expires: it.expires.map(Timestamp),
        once: it.once,
        used: it.used,
        instance: it.instance.map(InstanceId::from),
    };
    Ok((TokenId::new(it.id), token))
}

pub(super) fn bad_token(why: &BadToken) -> pb::BadToken {
    use pb::bad_token::Why;
    pb::BadToken {
        why: Some(match why {
            BadToken::Unknown => Why::Unknown(pb::Blank {}),
            BadToken::Expired => Why::Expired(pb::Blank {}),
            BadToken::Used => Why::Used(pb::Blank {}),
            BadToken::OtherRole(it) => Why::OtherRole(role(*it).into()),
            BadToken::OtherInstance => Why::OtherInstance(pb::Blank {}),
        }),
    }
}

pub(super) fn from_bad_token(it: pb::BadToken) -> Result<BadToken, Corrupt> {
    use pb::bad_token::Why;
    Ok(match it.why.ok_or_else(|| Corrupt::missing("why"))? {
        Why::Unknown(_) => BadToken::Unknown,
        Why::Expired(_) => BadToken::Expired,
        Why::Used(_) => BadToken::Used,
        Why::OtherRole(it) => BadToken::OtherRole(from_role(it)?),
        Why::OtherInstance(_) => BadToken::OtherInstance,
    })
}
