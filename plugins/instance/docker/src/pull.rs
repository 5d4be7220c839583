//! Pulls of images: one for each image, shared by all who need it, longer than any call.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use spi::{Class, Error};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::image::Reference;
use crate::{credentials, engine};

/// How long a pull may be silent. Unpacking says something every few seconds, even of a layer of gigabytes.
const SILENCE: Duration = Duration::from_secs(600);
/// How long Validate waits for the engine and a registry.
const REGISTRY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Pulls {
    /// The directory of Docker's own configuration.
    docker_config: Option<PathBuf>,
    known: Mutex<BTreeMap<String, watch::Receiver<Step>>>,
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Running {
        percent: Option<u64>,
        failed_before: Option<String>,
    },
    Done,
    /// Kept until somebody was told.
    Failed(String),
}

impl Pulls {
    pub(crate) fn with(docker_config: Option<PathBuf>) -> Self {
        Self { docker_config, known: Mutex::default() }
    }

    /// Ends well once the image is there. Until then, and if it fails, it is a refusal that says why.
    pub(crate) async fn ensure(&self, docker: &Docker, image: &str, until: Instant) -> Result<(), Error> {
        let mut pull = self.join(docker, image);
        let ended = async {
            let ended = pull.wait_for(|step| !matches!(step, Step::Running { .. })).await;
            ended.map_or(Step::Failed("the pull was broken off".to_owned()), |step| step.clone())
        };
        let ended = tokio::time::timeout_at(until, ended).await;
        let step = ended.unwrap_or_else(|_| pull.borrow().clone());
        let refused = |why: String| Err(Error::new(Class::Exhausted, format!("docker: {why}")));
        match step {
            Step::Running { percent, failed_before } => {
                let percent = percent.map_or(String::new(), |percent| format!(", {percent} %"));
                let before = failed_before.map_or(String::new(), |why| format!(" (again, after: {why})"));
                refused(format!("pulling {}{percent}{before}", Reference::of(image).full()))
            }
            Step::Done => {
                self.forget(image, &pull);
                Ok(())
            }
            Step::Failed(why) => {
                self.forget(image, &pull);
                refused(format!("the image `{image}` is missing and cannot be pulled: {why}"))
            }
        }
    }

    /// The pull that runs or has just failed, or a new one.
    fn join(&self, docker: &Docker, image: &str) -> watch::Receiver<Step> {
        let mut known = self.known.lock().expect("nobody panics while holding this");
        let before = known.get(image);
        if let Some(pull) = before.filter(|pull| *pull.borrow() != Step::Done) {
            return pull.clone();
        }
        let (told, pull) = watch::channel(Step::Running { percent: None, failed_before: None });
        known.insert(image.to_owned(), pull.clone());
        let (docker, image, config) = (docker.clone(), image.to_owned(), self.docker_config.clone());
        // It ends when the engine has the image, or refuses, or is silent for too long.
        tokio::spawn(async move {
            let reference = Reference::of(&image);
            let found = credentials::of(config.as_deref(), reference.registry()).await;
            let ended = pull_one(&docker, &reference, found.credentials, &told).await;
            told.send_replace(match ended {
                Ok(()) => Step::Done,
                Err(why) => Step::Failed(match found.note {
                    Some(note) => format!("{why} (asked without credentials: {note})"),
                    None => why,
                }),
            });
        });
        pull
    }

    fn forget(&self, image: &str, pull: &watch::Receiver<Step>) {
        let mut known = self.known.lock().expect("nobody panics while holding this");
        if known.get(image).is_some_and(|known| known.same_channel(pull)) {
            known.remove(image);
        }
    }

    /// Refuses an image that the engine lacks and that its registry denies. A registry that does not answer
    /// proves nothing.
    pub(crate) async fn check(&self, docker: &Docker, image: &str) -> Result<(), Error> {
        let reference = Reference::of(image);
        let asked = async {
            match docker.inspect_image(image).await {
                Err(error) if engine::status(&error) == Some(404) => {}
                Ok(_) | Err(_) => return Ok(()),
            }
            let found = credentials::of(self.docker_config.as_deref(), reference.registry()).await;
            docker.inspect_registry_image(&reference.full(), found.credentials).await.map(drop)
        };
        match tokio::time::timeout(REGISTRY, asked).await {
            Ok(Err(error)) if is_denied(&error) => Err(Error::invalid(format!(
                "docker: the image `{image}` is not on this engine, and its registry has none to give: {}",
                engine::message(&error)
            ))),
            Ok(Ok(()) | Err(_)) | Err(_) => Ok(()),
        }
    }
}

/// Whether the registry itself says no. An engine that does not know the question says 404 to its path.
fn is_denied(error: &engine::Fault) -> bool {
    matches!(engine::status(error), Some(401 | 403 | 404))
        && !engine::message(error).contains("page not found")
}

async fn pull_one(
    docker: &Docker,
    reference: &Reference<'_>,
    credentials: Option<DockerCredentials>,
    told: &watch::Sender<Step>,
) -> Result<(), String> {
    let options =
        CreateImageOptionsBuilder::default().from_image(reference.name).tag(reference.version).build();
    let mut steps = std::pin::pin!(docker.create_image(Some(options), None, credentials));
    let mut layers = Layers::default();
    loop {
        match tokio::time::timeout(SILENCE, steps.next()).await {
            Ok(Some(Ok(step))) => {
                layers.note(&step);
                let percent = layers.percent();
                told.send_if_modified(|known| match known {
                    Step::Running { percent: before, .. } => std::mem::replace(before, percent) != percent,
                    Step::Done | Step::Failed(_) => false,
                });
            }
            Ok(Some(Err(error))) => return Err(engine::message(&error)),
            Ok(None) => return Ok(()),
            Err(_) => return Err(format!("the engine said nothing for {SILENCE:?}")),
        }
    }
}

/// The layers of an image on their way: how much of each has come, of how much.
#[derive(Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    fn note(&mut self, step: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&step.id, step.status.as_deref()) else { return };
        let detail = step.progress_detail.as_ref();
        let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let current = detail.and_then(|detail| number(detail.current));
        let total = detail.and_then(|detail| number(detail.total)).filter(|total| *total > 0);
        match status {
            // The size of a layer is known once it comes.
            "Pulling fs layer" | "Waiting" => {
                self.0.entry(id.clone()).or_insert((0, 0));
            }
            "Downloading" => {
                if let Some(total) = total {
                    self.0.insert(id.clone(), (current.unwrap_or(0).min(total), total));
                }
            }
            "Download complete" | "Verifying Checksum" | "Extracting" | "Pull complete"
            | "Already exists" => {
                let layer = self.0.entry(id.clone()).or_insert((1, 1));
                layer.1 = layer.1.max(1);
                layer.0 = layer.1;
            }
            _ => {}
        }
    }

    /// By bytes; a layer whose size is not yet known counts as an average one.
    fn percent(&self) -> Option<u64> {
        let known = self.0.values().filter(|(_, total)| *total > 0);
        let (count, current, total) =
            known.fold((0, 0, 0), |sum, (current, total)| (sum.0 + 1, sum.1 + current, sum.2 + total));
        (total > 0).then(|| {
            let share = u128::from(current) * 100 * count / (u128::from(total) * self.0.len() as u128);
            share as u64
        })
    }
}

#[cfg(test)]
mod tests;
