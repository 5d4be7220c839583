//! `model::Command` and what it is made of, to protobuf and back.

use model::access::{Secret, TokenId};
use model::command::Steer;
use model::command::{
    Declaration, Machine, Manager, MemberRole, Program, Settle, Stray, StrayFate, Strays, Verb,
};
use model::ids::ObjectKind;
use model::secret::SecretName;
use model::{
    Actor, Change, ClusterId, Command, InstanceId, InstanceRef, LogIndex, NodeId, ObjectKey, PluginName,
    RequestId, Revision, Timestamp,
};
use prost::Message;

use super::access::{authority, from_authority, from_new_token, from_rotate, new_token, rotate};
use super::report::{from_intent_id, from_report, from_round, from_slot, intent_id, report, round, slot};
use super::spec::{from_key, from_object, key, object, unknown_kind};
use super::{Corrupt, FORMAT, format_at};
use crate::proto as pb;
use crate::types::Encoded;

/// As the programs of all managers read it, which know this feature level.
pub(crate) fn encode_command(command: &Command, level: u32) -> Encoded {
    let written = pb::Command {
        format: format_at(level),
        id: command.id.0.to_be_bytes().to_vec().into(),
        by: command.by.0.clone(),
        at: command.at.0,
        change: Some(change(&command.change, level)),
    };
    Encoded(written.encode_to_vec().into())
}

/// A form that is newer than this program stops it: to skip an entry would be to diverge.
pub(crate) fn decode_command(encoded: &Encoded) -> Result<Command, Corrupt> {
    let read = pb::Command::decode(&encoded.0[..])?;
    if read.format > FORMAT {
        return Err(Corrupt(format!(
            "the log holds a command of format {}, and this program reads up to {FORMAT}: use the newer program",
            read.format
        )));
    }
    Ok(Command {
        id: request_id(&read.id)?,
        by: Actor(read.by),
        at: Timestamp(read.at),
        change: from_change(read.change.ok_or_else(|| {
            Corrupt("the log holds a change that this program does not know: use the newer program".into())
        })?)?,
    })
}

fn change(change: &Change, level: u32) -> pb::command::Change {
    use pb::command::Change as Written;
    match change {
        Change::Bootstrap { cluster, lineage, manager: bootstraps, authority: root } => {
            Written::Bootstrap(pb::Bootstrap {
                cluster: cluster.to_string(),
                lineage: *lineage,
                manager: Some(manager(bootstraps)),
                authority: root.as_ref().map(authority),
            })
        }
        Change::Join { manager: joiner, token } => Written::Join(pb::Join {
            manager: Some(manager(joiner)),
            token: token.as_ref().map(|id| id.as_str().to_owned()),
        }),
        Change::Declare { items } => {
            Written::Commit(pb::Commit { items: items.iter().map(declaration).collect() })
        }
        Change::Object { key, verb } => object_verb(key, *verb, level),
        Change::Report(it) if level < 2 => Written::Round(round(it)),
        Change::Report(it) => Written::Report(report(it)),
        Change::Lead { node } => Written::Lead(node.0),
        Change::Duplicate { node } => Written::Duplicate(node.0),
        Change::SetVariable { key, value } => {
            Written::SetVariable(pb::SetVariable { key: key.clone(), value: value.clone() })
        }
        Change::Settle(it) => Written::Settle(pb::Settle {
            group: it.group.to_string(),
            intent: Some(intent_id(it.intent)),
            attempt: it.attempt,
            made: it.made.as_ref().map(InstanceId::to_string),
        }),
        Change::Strays(it) => Written::Strays(strays(it)),
        Change::SetMemberRole { nodes, role } => Written::SetMemberRole(pb::SetMemberRole {
            nodes: nodes.iter().map(|node| node.0).collect(),
            role: match role {
                MemberRole::Voter => pb::MemberRole::Voter,
                MemberRole::Learner => pb::MemberRole::Learner,
                MemberRole::Removed => pb::MemberRole::Removed,
            }
            .into(),
        }),
        Change::CreateToken(it) => Written::CreateToken(new_token(it)),
        Change::RevokeToken { id } => Written::RevokeToken(id.as_str().to_owned()),
        Change::Login { token, name, key } => Written::Login(pb::Login {
            token: token.as_str().to_owned(),
            name: name.clone(),
            key: key.clone(),
        }),
        Change::Rotate { next, bridge } => Written::Rotate(rotate(next, bridge)),
        Change::StepRotation { after } => Written::StepRotation(after.0),
        Change::SetSecret { name, value } => Written::SetSecret(pb::SetSecret {
            name: name.as_str().to_owned(),
            value: value.expose().to_vec().into(),
        }),
        Change::RemoveSecret { name } => Written::RemoveSecret(name.as_str().to_owned()),
        Change::RemoveVariable { key } => Written::RemoveVariable(key.clone()),
    }
}

fn object_verb(of: &ObjectKey, verb: Verb, level: u32) -> pb::command::Change {
    use pb::command::Change as Written;
    match verb {
        Verb::Accept(revision) => {
            let object = match of.kind {
                ObjectKind::Group => pb::validated::Object::Group(of.name.to_string()),
            };
            Written::Validated(pb::Validated { object: Some(object), revision: revision.0 })
        }
        Verb::Release if level < 2 => Written::Free(of.name.to_string()),
        Verb::Release => Written::Release(key(of)),
        Verb::Destroy if level < 2 => Written::Destroy(of.name.to_string()),
        Verb::Destroy => Written::DestroyObject(key(of)),
        Verb::Pause => Written::Pause(key(of)),
        Verb::Resume => Written::Resume(key(of)),
        Verb::Rollout(steer) => {
            let steer = match steer {
                Steer::Pause => pb::steering::Steer::Pause,
                Steer::Resume => pb::steering::Steer::Resume,
                Steer::Promote => pb::steering::Steer::Promote,
                Steer::Abort => pb::steering::Steer::Abort,
            };
            Written::SteerRollout(pb::Steering { key: Some(key(of)), steer: steer.into() })
        }
    }
}

fn from_change(change: pb::command::Change) -> Result<Change, Corrupt> {
    use pb::command::Change as Written;
    Ok(match change {
        Written::Bootstrap(it) => Change::Bootstrap {
            cluster: ClusterId::new(it.cluster),
            lineage: it.lineage,
            manager: from_manager(it.manager)?,
            authority: it.authority.map(from_authority),
        },
        Written::Join(it) => {
            Change::Join { manager: from_manager(it.manager)?, token: it.token.map(TokenId::new) }
        }
        Written::Commit(it) => {
            Change::Declare { items: it.items.into_iter().map(from_declaration).collect::<Result<_, _>>()? }
        }
        Written::Validated(it) => {
            let key = match it.object.ok_or_else(unknown_kind)? {
                pb::validated::Object::Group(name) => ObjectKey::group(&name.into()),
            };
            Change::Object { key, verb: Verb::Accept(Revision(it.revision)) }
        }
        Written::Free(group) => Change::Object { key: ObjectKey::group(&group.into()), verb: Verb::Release },
        Written::Destroy(group) => {
            Change::Object { key: ObjectKey::group(&group.into()), verb: Verb::Destroy }
        }
        Written::Round(it) => Change::Report(from_round(it)?),
        Written::Release(key) => from_object_verb(key, Verb::Release)?,
        Written::DestroyObject(key) => from_object_verb(key, Verb::Destroy)?,
        Written::Pause(key) => from_object_verb(key, Verb::Pause)?,
        Written::Resume(key) => from_object_verb(key, Verb::Resume)?,
        Written::SteerRollout(it) => {
            let steer = match it.steer() {
                pb::steering::Steer::Pause => Steer::Pause,
                pb::steering::Steer::Resume => Steer::Resume,
                pb::steering::Steer::Promote => Steer::Promote,
                pb::steering::Steer::Abort => Steer::Abort,
            };
            let key = it.key.ok_or_else(|| Corrupt::missing("key"))?;
            from_object_verb(key, Verb::Rollout(steer))?
        }
        Written::Report(it) => Change::Report(from_report(it)?),
        Written::Lead(node) => Change::Lead { node: NodeId(node) },
        Written::Duplicate(node) => Change::Duplicate { node: NodeId(node) },
        Written::SetVariable(it) => Change::SetVariable { key: it.key, value: it.value },
        Written::Settle(it) => Change::Settle(Settle {
            group: it.group.into(),
            intent: from_intent_id(it.intent)?,
            attempt: it.attempt,
            made: it.made.map(InstanceId::from),
        }),
        Written::Strays(it) => Change::Strays(from_strays(it)?),
        Written::SetMemberRole(it) => Change::SetMemberRole {
            role: from_member_role(it.role)?,
            nodes: it.nodes.into_iter().map(NodeId).collect(),
        },
        Written::CreateToken(it) => Change::CreateToken(from_new_token(it)?),
        Written::RevokeToken(id) => Change::RevokeToken { id: TokenId::new(id) },
        Written::Login(it) => Change::Login { token: TokenId::new(it.token), name: it.name, key: it.key },
        Written::Rotate(it) => {
            let (next, bridge) = from_rotate(it)?;
            Change::Rotate { next, bridge }
        }
        Written::StepRotation(after) => Change::StepRotation { after: LogIndex(after) },
        Written::SetSecret(it) => {
            Change::SetSecret { name: SecretName::new(it.name), value: Secret::new(&it.value[..]) }
        }
        Written::RemoveSecret(name) => Change::RemoveSecret { name: SecretName::new(name) },
        Written::RemoveVariable(key) => Change::RemoveVariable { key },
    })
}

fn strays(it: &Strays) -> pb::Strays {
    pb::Strays {
        group: it.group.to_string(),
        fate: match it.fate {
            StrayFate::Adopted => pb::strays::Fate::Adopted,
            StrayFate::Destroyed => pb::strays::Fate::Destroyed,
        }
        .into(),
        items: it
            .items
            .iter()
            .map(|it| pb::Stray {
                instance: it.instance.id.to_string(),
                plugin: it.instance.plugin.to_string(),
                template: it.template.0,
                slot: it.slot.as_ref().map(slot),
            })
            .collect(),
    }
}

fn from_strays(it: pb::Strays) -> Result<Strays, Corrupt> {
    let fate = match pb::strays::Fate::try_from(it.fate) {
        Ok(pb::strays::Fate::Adopted) => StrayFate::Adopted,
        Ok(pb::strays::Fate::Destroyed) => StrayFate::Destroyed,
        Err(unknown) => return Err(Corrupt(unknown.to_string())),
    };
    let stray = |it: pb::Stray| {
        Ok::<_, Corrupt>(Stray {
            instance: InstanceRef { id: it.instance.into(), plugin: it.plugin.into() },
            template: Revision(it.template),
            slot: it.slot.map(|it| from_slot(Some(it))).transpose()?,
        })
    };
    let items = it.items.into_iter().map(stray).collect::<Result<_, _>>()?;
    Ok(Strays { group: it.group.into(), fate, items })
}

fn from_member_role(written: i32) -> Result<MemberRole, Corrupt> {
    match pb::MemberRole::try_from(written) {
        Ok(pb::MemberRole::Voter) => Ok(MemberRole::Voter),
        Ok(pb::MemberRole::Learner) => Ok(MemberRole::Learner),
        Ok(pb::MemberRole::Removed) => Ok(MemberRole::Removed),
        Err(unknown) => Err(Corrupt(unknown.to_string())),
    }
}

fn from_object_verb(key: pb::Key, verb: Verb) -> Result<Change, Corrupt> {
    Ok(Change::Object { key: from_key(Some(key))?, verb })
}

fn declaration(item: &Declaration) -> pb::CommitItem {
    pb::CommitItem {
        spec: Some(object(&item.spec)),
        if_revision: item.if_revision.map(|revision| revision.0),
        unvalidated: item.unvalidated,
    }
}

fn from_declaration(item: pb::CommitItem) -> Result<Declaration, Corrupt> {
    Ok(Declaration {
        spec: from_object(item.spec)?,
        if_revision: item.if_revision.map(Revision),
        unvalidated: item.unvalidated,
    })
}

pub(crate) fn manager(manager: &Manager) -> pb::Manager {
    let machine_plugin = manager.instance.as_ref().and_then(|it| it.plugin.as_ref());
    pb::Manager {
        name: manager.name.clone(),
        address: manager.address.clone(),
        storage: manager.storage.clone(),
        instance: manager.instance.as_ref().map(|it| it.id.to_string()),
        instance_plugin: machine_plugin.map(PluginName::to_string),
        version: manager.program.version.clone(),
        level: manager.program.level,
    }
}

pub(crate) fn from_manager(manager: Option<pb::Manager>) -> Result<Manager, Corrupt> {
    let manager = manager.ok_or_else(|| Corrupt::missing("manager"))?;
    Ok(Manager {
        name: manager.name,
        address: manager.address,
        storage: manager.storage,
        instance: manager
            .instance
            .map(|id| Machine { id: id.into(), plugin: manager.instance_plugin.map(PluginName::from) }),
        program: Program { version: manager.version, level: manager.level },
    })
}

pub(super) fn request_id(bytes: &[u8]) -> Result<RequestId, Corrupt> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| Corrupt("a request id has not 16 bytes".into()))?;
    Ok(RequestId(u128::from_be_bytes(bytes)))
}
