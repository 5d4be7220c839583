//! The names of images, as the engine reads them.

/// An image as it is asked from a registry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// The repository, with its registry if it names one.
    pub(crate) name: &'a str,
    /// The tag or the digest. Without one the engine would pull every tag.
    pub(crate) version: &'a str,
}

impl<'a> Reference<'a> {
    pub(crate) fn of(image: &'a str) -> Self {
        if let Some((name, digest)) = image.split_once('@') {
            return Self { name, version: digest };
        }
        // A colon before the last slash is the port of a registry.
        let last = image.rfind('/').map_or(0, |slash| slash + 1);
        match image[last..].find(':') {
            Some(colon) => Self { name: &image[..last + colon], version: &image[last + colon + 1..] },
            None => Self { name: image, version: "latest" },
        }
    }

    /// The whole name, with its tag or digest.
    pub(crate) fn full(&self) -> String {
        let between = if self.version.contains(':') { '@' } else { ':' };
        format!("{}{between}{}", self.name, self.version)
    }

    /// The registry that has it; none for Docker's own.
    pub(crate) fn registry(&self) -> Option<&'a str> {
        let (first, _) = self.name.split_once('/')?;
        let is_host = first.contains(['.', ':']) || first == "localhost";
        (is_host && !matches!(first, "docker.io" | "index.docker.io")).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_tag_or_digest_is_the_latest() {
        for (image, name, version, registry) in [
            ("busybox", "busybox", "latest", None),
            ("busybox:1.36", "busybox", "1.36", None),
            ("library/busybox", "library/busybox", "latest", None),
            ("docker.io/library/busybox", "docker.io/library/busybox", "latest", None),
            ("host:5000/x", "host:5000/x", "latest", Some("host:5000")),
            ("host:5000/x:v1", "host:5000/x", "v1", Some("host:5000")),
            ("localhost/x", "localhost/x", "latest", Some("localhost")),
            ("ghcr.io/a/b:v2", "ghcr.io/a/b", "v2", Some("ghcr.io")),
            ("host:5000/x@sha256:ab", "host:5000/x", "sha256:ab", Some("host:5000")),
            ("x:v1@sha256:ab", "x:v1", "sha256:ab", None),
        ] {
            let read = Reference::of(image);
            assert_eq!(read, Reference { name, version }, "{image}");
            assert_eq!(read.registry(), registry, "{image}");
        }
        assert_eq!(Reference::of("host:5000/x").full(), "host:5000/x:latest");
        assert_eq!(Reference::of("x@sha256:ab").full(), "x@sha256:ab");
    }
}
