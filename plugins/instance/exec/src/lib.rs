//! Any program as a plugin: each call runs it once, with words as arguments, JSON on its standard input and what it says
//! on its standard output.
//!
//! ```text
//! PROGRAM interfaces                        says what it is: instance, flavor, start, tokens, lists-within=3s|never
//! PROGRAM instance validate                 in: the properties
//! PROGRAM instance provision TOKEN          in: the spec         out: the id, alone or as {"ID": …}
//! PROGRAM instance describe                 in: the tags         out: a description after another
//! PROGRAM instance label ID                 in: the labels
//! PROGRAM instance destroy ID REASON        REASON is terminate or rolling_update
//! PROGRAM instance start ID
//! PROGRAM flavor validate                   in: {"Properties": …, "Size": 3}, or "LogicalIDs": […]
//! PROGRAM flavor prepare                    in: the same with "Spec" and "Group"   out: the spec; nothing leaves it
//! PROGRAM flavor healthy ID                 in: {"Properties": …, "Instance": …}
//! PROGRAM flavor drain ID                   in: the same
//! ```
//!
//! A spec is `{"Properties", "Tags", "Init", "LogicalID", "Attachments"}`, a description `{"ID", "LogicalID", "Tags",
//! "Properties", "State"}` as [`spi::Instances::describe`] has it. Instead of its tags, logical id and properties, a
//! description may have `Spec`, what `provision` got, and `Labels`, a list of what `label` got. A program may list more
//! than is asked for: what lacks the tags is left out here.
//!
//! The token is empty when there is none. A program that says `tokens` creates no second instance for a token, whoever
//! asks and however often: it looks for it at its provider first. `INFRAKIT_DEADLINE` has the seconds until the
//! program is killed. Whenever it ends, what it has started and left in its process group ends too: `setsid`, with its
//! output elsewhere, is for what must go on.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; for `healthy`: healthy |
//! | 64 | the program does not know these words: nothing to validate, to change or to drain; the health is unknown |
//! | 65 | what it was given is invalid |
//! | 66 | there is no such instance |
//! | 69, 75 | nothing was done; try again later. For `healthy`: unknown |
//! | 126, 127, or ended by a signal | the program has told nothing. For `healthy`: unknown |
//! | any other | for `healthy`: unhealthy. For `validate`: invalid |
//!
//! For `provision`, `label`, `destroy` and `start`, whatever is not said to be undone may have been done. A plugin that is
//! killed, and not stopped, cannot end its programs.
//!
//! What it says on its standard error is the reason, and is logged.

mod convert;
mod program;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::tags::Tags;
use model::{Allocation, Description, Health, InstanceId, Millis, Opaque};
use spi::{
    Call, Class, Error, Flavors, Index, InstanceSpec, Instances, Kind, KindOption, NotMade, Plugin, Setup,
    Verdict,
};

use program::{Ended, Program};

/// The kind of this plugin.
pub const KIND: Kind = Kind {
    name: "exec",
    summary: "any program, as an instance and flavor plugin: JSON on its standard input and output",
    options: &[
        KindOption { key: "program", summary: "the program; required", variable: None },
        KindOption {
            key: "deadline",
            summary: "how long one call may take, until the program is killed [default: 15s]",
            variable: None,
        },
        KindOption {
            key: "parallel",
            summary: "how many run at once that change something, and as many that only tell [default: 16]",
            variable: None,
        },
    ],
    make: |setup| Box::pin(make(setup)),
};

/// How long a call takes at most, unless it is said: managers wait for no reply longer than that.
const DEADLINE: Duration = Duration::from_secs(15);

/// How many programs run at once, unless it is said.
const PARALLEL: usize = 16;

async fn make(setup: Setup) -> Result<Plugin, NotMade> {
    let options = &setup.options;
    let path = options.get("program").ok_or_else(|| {
        NotMade::Options("the exec plugin requires a program; give --set program=PATH".to_owned())
    })?;
    let deadline = match options.get("deadline") {
        None => DEADLINE,
        Some(text) => Millis::parse_go(text)
            .map(|span| Duration::from_millis(span.0))
            .map_err(|why| NotMade::Options(format!("deadline: {why}")))?,
    };
    let parallel = match options.get("parallel").map(|text| text.parse()) {
        None => PARALLEL,
        Some(Ok(number)) if (1..=1000).contains(&number) => number,
        Some(_) => return Err(NotMade::Options("parallel: a number from 1 to 1000 is needed".into())),
    };
    plugin(Program::new(PathBuf::from(path), deadline, parallel)).await
}

/// Asks the program what it is.
async fn plugin(program: Program) -> Result<Plugin, NotMade> {
    let ended = program.run(&["interfaces"], "", &Call::default()).await;
    let said = ended.and_then(|it| it.done("it says no interfaces", Class::Internal));
    let said = said.map_err(|error| NotMade::Failed(format!("`{program} interfaces`: {error}")))?;
    let exec = Arc::new(Exec { program });
    let mut plugin = Plugin::default();
    let (mut serves, mut tokens, mut late) = (false, false, false);
    for word in said.split_whitespace() {
        plugin = match word {
            "instance" => plugin.with_instances("", exec.clone()),
            "flavor" => plugin.with_flavor("", exec.clone()),
            "start" => plugin.starting(),
            "tokens" => plugin.knowing_tokens(),
            "lists-within=never" => plugin.proving_nothing(),
            _ => {
                let span = word.strip_prefix("lists-within=").map(Millis::parse_go);
                let Some(Ok(span)) = span else {
                    return Err(NotMade::Failed(format!(
                        "`{} interfaces` says `{word}`; known are instance, flavor, start, tokens, lists-within=SPAN and \
                         lists-within=never",
                        exec.program
                    )));
                };
                plugin.listing_within(span)
            }
        };
        serves |= matches!(word, "instance" | "flavor");
        tokens |= word == "tokens";
        late |= word.starts_with("lists-within=") && word != "lists-within=never";
    }
    if late && !tokens {
        return Err(NotMade::Failed(format!(
            "`{} interfaces` says lists-within without tokens: what is not listed yet would be made twice; say \
             lists-within=never, or look for the token",
            exec.program
        )));
    }
    if !serves {
        return Err(NotMade::Failed(format!(
            "`{} interfaces` says neither instance nor flavor",
            exec.program
        )));
    }
    Ok(plugin)
}

struct Exec {
    program: Program,
}

impl Exec {
    async fn call(&self, words: &[&str], input: &str, call: &Call) -> Result<Ended, Error> {
        self.program.run(words, input, call).await
    }
}

/// One that does not know the words, and need not.
const UNKNOWN: i32 = 64;
/// Nothing was done, and it may be tried again (`EX_UNAVAILABLE`, `EX_TEMPFAIL`).
const LATER: [i32; 2] = [69, 75];
/// What a shell says when it cannot run a program, or when a signal ended it.
const SHELL: std::ops::RangeInclusive<i32> = 126..=255;

impl Ended {
    /// What it said, or why it failed: `odd` is the class of what is not told by the exit code.
    fn done(self, instead: &str, odd: Class) -> Result<String, Error> {
        let class = match self.code {
            Some(0) => return Ok(self.output),
            Some(UNKNOWN) => return Err(Error::internal(self.why(instead))),
            Some(65) => Class::InvalidSpec,
            Some(66) => Class::NotFound,
            Some(code) if LATER.contains(&code) => Class::Exhausted,
            Some(code) if !SHELL.contains(&code) => odd,
            // It has told nothing: what is certain otherwise, such as that a spec is invalid, is not.
            Some(_) | None if odd == Class::InvalidSpec => Class::Unavailable,
            Some(_) | None => odd,
        };
        Err(Error::new(class, self.why(instead)))
    }

    /// Whether the properties are valid: who does not know the words has nothing against them.
    fn valid(self) -> Result<(), Error> {
        if self.is_unknown() {
            return Ok(());
        }
        let refused = self.done("it refuses the properties", Class::InvalidSpec);
        refused.map(drop).map_err(|error| match error.class {
            // It is as if the plugin did not answer.
            Class::Exhausted => Error::new(Class::Unavailable, error.message),
            _ => error,
        })
    }

    fn is_unknown(&self) -> bool {
        self.code == Some(UNKNOWN)
    }
}

#[async_trait]
impl Instances for Exec {
    async fn validate(&self, properties: &Opaque) -> Result<(), Error> {
        self.call(&["instance", "validate"], properties.as_json(), &Call::default()).await?.valid()
    }

    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
        let token = call.token.as_ref().or_else(|| spec.tags.get(model::tags::INTENT));
        let words = ["instance", "provision", token.map_or("", String::as_str)];
        let ended = self.call(&words, &spi::instance_spec_to_json(spec), call).await?;
        convert::id(&ended.done("it creates no instances", Class::Unsure)?)
    }

    async fn label(&self, instance: &InstanceId, labels: &Tags, call: &Call) -> Result<(), Error> {
        let labels = serde_json::to_string(labels).map_err(Error::internal)?;
        let ended = self.call(&["instance", "label", instance.as_str()], &labels, call).await?;
        ended.done("it cannot add labels", Class::Unsure).map(drop)
    }

    async fn destroy(&self, instance: &InstanceId, reason: &str, call: &Call) -> Result<(), Error> {
        let ended = self.call(&["instance", "destroy", instance.as_str(), reason], "", call).await?;
        match ended.done("it destroys nothing", Class::Unsure) {
            Ok(_) | Err(Error { class: Class::NotFound, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        let words = ["instance", "start", instance.as_str()];
        let ended = self.call(&words, "", &Call::default()).await?;
        ended.done("it cannot start what has stopped", Class::Unsure).map(drop)
    }

    async fn describe(&self, tags: &Tags, properties: bool) -> Result<Vec<Description>, Error> {
        let asked = serde_json::to_string(tags).map_err(Error::internal)?;
        let ended = self.call(&["instance", "describe"], &asked, &Call::default()).await?;
        let mut all = convert::descriptions(&ended.done("it lists nothing", Class::Internal)?)?;
        all.retain(|it| tags.iter().all(|(key, value)| it.tags.get(key) == Some(value)));
        if !properties {
            all.iter_mut().for_each(|it| it.properties = None);
        }
        Ok(all)
    }
}

#[async_trait]
impl Flavors for Exec {
    async fn validate(&self, properties: &Opaque, allocation: &Allocation) -> Result<(), Error> {
        let input = convert::about_group(properties, allocation, None);
        self.call(&["flavor", "validate"], &input, &Call::default()).await?.valid()
    }

    async fn prepare(
        &self,
        properties: &Opaque,
        spec: InstanceSpec,
        allocation: &Allocation,
        index: &Index,
    ) -> Result<InstanceSpec, Error> {
        let input = convert::about_group(properties, allocation, Some((&spec, index)));
        let ended = self.call(&["flavor", "prepare"], &input, &Call::default()).await?;
        if ended.is_unknown() {
            return Ok(spec);
        }
        let said = ended.done("it prepares nothing", Class::Internal)?;
        if said.trim().is_empty() {
            return Ok(spec);
        }
        // It is the program that is wrong, and not what somebody declared.
        spi::instance_spec_from_json(&said).map_err(|error| Error::internal(error.message))
    }

    async fn healthy(&self, properties: &Opaque, instance: &Description) -> Result<Verdict, Error> {
        let input = convert::about_instance(properties, instance);
        let words = ["flavor", "healthy", instance.id.as_str()];
        let ended = self.call(&words, &input, &Call::default()).await?;
        let health = match ended.code {
            Some(0) => {
                return Ok(Verdict { health: Health::Healthy, message: ended.output.trim().to_owned() });
            }
            Some(UNKNOWN) => return Ok(Verdict { health: Health::Unknown, message: String::new() }),
            Some(code) if LATER.contains(&code) || SHELL.contains(&code) => Health::Unknown,
            Some(_) => Health::Unhealthy,
            None => Health::Unknown,
        };
        Ok(Verdict { health, message: ended.why("it says no reason") })
    }

    async fn drain(&self, properties: &Opaque, instance: &Description) -> Result<(), Error> {
        let input = convert::about_instance(properties, instance);
        let words = ["flavor", "drain", instance.id.as_str()];
        let ended = self.call(&words, &input, &Call::default()).await?;
        if ended.is_unknown() {
            return Ok(());
        }
        ended.done("it does not drain", Class::Internal).map(drop)
    }
}

#[cfg(test)]
mod tests;
