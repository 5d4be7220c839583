//! Tokens and the certificate authority, as the log changes them.

use crate::ids::LogIndex;
use std::sync::Arc;

use super::State;
use super::context::Context;
use crate::access::{Authorities, Authority, BadToken, Newcomer, Rotation, Token, TokenId};
use crate::answer::{Answer, Refusal};
use crate::command::NewToken;
use crate::event::Kind;
use crate::limits::MOST_TOKENS;

impl State {
    /// Whether this user may log in with a token, or this manager join, by the state of this replica.
    pub fn admits(&self, id: &TokenId, whom: &Newcomer<'_>) -> Result<(), BadToken> {
        self.tokens.get(id).ok_or(BadToken::Unknown)?.admits(whom, self.time)
    }

    /// Marks a token that is valid for a single use as used.
    pub(super) fn use_up(&mut self, id: &TokenId, whom: &Newcomer<'_>) {
        if let Some(token) = self.tokens.get_mut(id)
            && token.once
        {
            token.used = Some(whom.who().to_owned());
        }
    }

    pub(super) fn log_in(
        &mut self,
        context: &mut Context<'_>,
        id: &TokenId,
        name: &str,
        key: &str,
    ) -> Answer {
        let whom = Newcomer::Person { key };
        match self.admits(id, &whom) {
            Ok(()) => {
                self.use_up(id, &whom);
                let role = self.tokens[id].role;
                context.emit(
                    None,
                    Kind::PersonLoggedIn,
                    format!("user `{name}` logged in with the role {role}, by token {}", id.short()),
                );
                Answer::Done
            }
            Err(why) => Answer::Refused(Refusal::Token(why)),
        }
    }

    pub(super) fn create_token(&mut self, context: &mut Context<'_>, new: &NewToken) -> Answer {
        let now = self.time;
        self.tokens = std::mem::take(&mut self.tokens)
            .into_iter()
            .filter(|(_, token)| !token.is_forgotten(now))
            .collect();
        if let Some(old) = &new.replaces
            && self.tokens.remove(old).is_none()
        {
            return Answer::Refused(Refusal::NoToken { id: old.clone() });
        }
        if self.tokens.len() >= MOST_TOKENS {
            return Answer::Refused(Refusal::TooManyTokens { most: MOST_TOKENS });
        }
        if self.tokens.contains_key(&new.id) {
            return Answer::Done;
        }
        let token = Token {
            role: new.role,
            created: now,
            by: context.by.to_string(),
            expires: new.lasts.map(|span| now + span),
            once: new.once,
            used: None,
            instance: new.instance.clone(),
        };
        let message = match &new.replaces {
            Some(old) => format!(
                "token {} for the role {}; it replaces token {}, which is revoked",
                new.id.short(),
                new.role,
                old.short()
            ),
            None => format!("token {} for the role {}", new.id.short(), new.role),
        };
        context.emit(None, Kind::TokenCreated, message);
        self.tokens.insert(new.id.clone(), token);
        Answer::Done
    }

    pub(super) fn revoke_token(&mut self, context: &mut Context<'_>, id: &TokenId) -> Answer {
        match self.tokens.remove(id) {
            Some(token) => {
                let what = format!("token {} for the role {}", id.short(), token.role);
                context.emit(None, Kind::TokenRevoked, what);
                Answer::Done
            }
            None => Answer::Refused(Refusal::NoToken { id: id.clone() }),
        }
    }

    /// Announces the next authority; the first one of a cluster signs at once.
    pub(super) fn rotate(
        &mut self,
        context: &mut Context<'_>,
        next: &Authority,
        bridge: &Arc<[u8]>,
    ) -> Answer {
        match &mut self.authorities {
            Some(known) if known.rotation == Rotation::None => {
                known.rotation = Rotation::Announced { next: next.clone(), bridge: bridge.clone() };
                known.changed = context.log.index;
                let what = "a new certificate authority is trusted, and will sign after the next step";
                context.emit(None, Kind::AuthorityAnnounced, what);
                Answer::Done
            }
            Some(_) => Answer::Refused(Refusal::IsRotating),
            None => {
                self.authorities = Some(Authorities::new(next.clone(), context.log.index));
                Answer::Done
            }
        }
    }

    /// Takes the next step of a rotation, if the last one was taken by the log entry `after`: so a repeated
    /// command takes no step twice.
    pub(super) fn step_rotation(&mut self, context: &mut Context<'_>, after: LogIndex) -> Answer {
        let Some(known) = self.authorities.as_mut().filter(|known| known.changed == after) else {
            return Answer::Done;
        };
        let (signing, rotation, kind, message) = match std::mem::replace(&mut known.rotation, Rotation::None)
        {
            Rotation::None => return Answer::Done,
            Rotation::Announced { next, bridge } => {
                let certificate = known.signing.certificate.clone();
                let retiring = Rotation::Retiring { certificate, bridge };
                let what = "the new certificate authority signs; the former one is still trusted";
                (next, retiring, Kind::AuthorityRotated, what)
            }
            Rotation::Retiring { .. } => {
                let signing = known.signing.clone();
                let what = "the former certificate authority is no longer trusted";
                (signing, Rotation::None, Kind::AuthorityRetired, what)
            }
        };
        *known = Authorities { signing, rotation, changed: context.log.index };
        context.emit(None, kind, message);
        Answer::Done
    }
}
