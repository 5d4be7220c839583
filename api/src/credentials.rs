//! X.509 credentials: the identity in a certificate, keys, and certificate requests.

use std::fmt;

use model::access::{Role, TokenId};
use model::{ClusterId, NodeId};
use rcgen::{CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// The subject attribute with the token that a user logged in with, or the lineage of a manager:
/// X.520 `serialNumber`.
const SERIAL: [u64; 4] = [2, 5, 4, 5];

/// The subject of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A manager, in one lineage of its cluster.
    Manager {
        /// Its cluster.
        cluster: ClusterId,
        /// How often the cluster was recovered or restored.
        lineage: u32,
        /// The manager.
        node: NodeId,
    },
    /// A user; the certificate is valid as long as the token of the login is.
    Person {
        /// The cluster that the user logged in to.
        cluster: ClusterId,
        /// The name that the token was created for.
        name: String,
        /// What the user may do.
        role: Role,
        /// The token of the login.
        token: TokenId,
    },
}

/// What one side of a connection presents, and the authorities that it trusts.
#[derive(Clone)]
pub struct Credentials {
    /// The trusted certificate authorities.
    pub trusted: Vec<CertificateDer<'static>>,
    /// Its own certificate.
    pub certificate: CertificateDer<'static>,
    /// A cross-signed certificate for peers that trust the previous authority only.
    pub(crate) bridge: Option<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// A new key and its certificate signing request.
pub struct CertificateRequest {
    key: KeyPair,
    der: Vec<u8>,
}

/// A certificate, key or PEM text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCertificate(pub String);

impl BadCertificate {
    fn new(what: &str, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

impl Subject {
    /// What whoever has the certificate may do.
    pub fn role(&self) -> Role {
        match self {
            Subject::Manager { .. } => Role::Manager,
            Subject::Person { role, .. } => *role,
        }
    }

    /// The subject as an X.509 name.
    pub fn distinguished_name(&self) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationalUnitName, self.role().as_str());
        match self {
            Subject::Manager { cluster, lineage, node } => {
                name.push(DnType::OrganizationName, cluster.as_str());
                name.push(DnType::CommonName, node.to_string());
                name.push(DnType::CustomDnType(SERIAL.to_vec()), lineage.to_string());
            }
            Subject::Person { cluster, name: own, token, .. } => {
                name.push(DnType::OrganizationName, cluster.as_str());
                name.push(DnType::CommonName, own.as_str());
                name.push(DnType::CustomDnType(SERIAL.to_vec()), token.as_str());
            }
        }
        name
    }

    /// The subject of a certificate. Its signature is not checked.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, BadCertificate> {
        let bad = |why: &str| BadCertificate::new("not a certificate of an infrakit cluster", why);
        let (_, read) = X509Certificate::from_der(certificate).map_err(|error| bad(&error.to_string()))?;
        let name = read.subject();
        let one = |found: Option<&str>, what| found.map(str::to_owned).ok_or_else(|| bad(what));
        let cluster =
            ClusterId::new(one(first(name.iter_organization()), "it has no organization (cluster)")?);
        let common = one(first(name.iter_common_name()), "it has no common name")?;
        let role = one(first(name.iter_organizational_unit()), "it has no organizational unit (role)")?;
        match role.parse::<Role>().map_err(|why| bad(&why))? {
            Role::Manager => {
                let node = common.parse().map_err(|_| bad("its common name is not a manager id"))?;
                let lineage = serial(name).and_then(|text| text.parse().ok());
                let lineage = lineage.ok_or_else(|| bad("it has no lineage"))?;
                Ok(Subject::Manager { cluster, lineage, node: NodeId(node) })
            }
            role => {
                let token = TokenId::new(one(serial(name), "it has no token id")?);
                Ok(Subject::Person { cluster, name: common, role, token })
            }
        }
    }
}

fn first<'a>(
    mut found: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Option<&'a str> {
    found.next()?.as_str().ok()
}

fn serial<'a>(name: &'a X509Name<'a>) -> Option<&'a str> {
    first(name.iter_attributes().filter(|it| it.attr_type().iter().is_some_and(|oid| oid.eq(SERIAL))))
}

impl CertificateRequest {
    /// Generates a key.
    pub fn new() -> Result<Self, BadCertificate> {
        let bad = |error: rcgen::Error| BadCertificate::new("a key could not be generated", error);
        let key = KeyPair::generate().map_err(bad)?;
        let mut params = CertificateParams::default();
        // The signer sets the subject; the one in the request is ignored.
        params.distinguished_name = DistinguishedName::new();
        let der = params.serialize_request(&key).map_err(bad)?.der().to_vec();
        Ok(Self { key, der })
    }

    /// The request: PKCS #10, in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The credentials with the certificate that was issued for this request.
    pub fn granted(self, certificate: Vec<u8>, trusted: Vec<Vec<u8>>) -> Credentials {
        Credentials {
            trusted: trusted.into_iter().map(CertificateDer::from).collect(),
            certificate: CertificateDer::from(certificate),
            bridge: None,
            key: self.key.serialize_der(),
        }
    }
}

/// The issuer of a certificate, as an X.509 name, and its expiry in seconds since the Unix epoch.
pub fn issued(certificate: &CertificateDer<'_>) -> Result<(Vec<u8>, i64), BadCertificate> {
    let (_, read) = parse(certificate)?;
    Ok((read.issuer().as_raw().to_vec(), read.validity().not_after.timestamp()))
}

/// The subject of a certificate, as an X.509 name.
pub fn named(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, BadCertificate> {
    Ok(parse(certificate)?.1.subject().as_raw().to_vec())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<(&'a [u8], X509Certificate<'a>), BadCertificate> {
    X509Certificate::from_der(certificate)
        .map_err(|error| BadCertificate::new("a certificate cannot be read", error))
}

/// Parses a certificate signing request and verifies its proof of possession.
pub fn read_request(der: &[u8]) -> Result<CertificateSigningRequestParams, BadCertificate> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
        .map_err(|error| BadCertificate::new("the certificate signing request cannot be read", error))
}

/// The SHA-256 of the public key of a certificate signing request: a repeated request has the same.
pub fn key_digest(der: &[u8]) -> Result<String, BadCertificate> {
    use rcgen::PublicKeyData;
    let request = read_request(der)?;
    let digest = Sha256::digest(request.public_key.subject_public_key_info());
    Ok(data_encoding::HEXLOWER.encode(&digest))
}

impl Credentials {
    /// Credentials with a private key in PKCS #8.
    pub fn new(
        trusted: Vec<CertificateDer<'static>>,
        certificate: CertificateDer<'static>,
        key: Vec<u8>,
    ) -> Self {
        Self { trusted, certificate, bridge: None, key }
    }

    /// Presents this cross-signed certificate too: the issuing authority, signed by the previous one.
    #[must_use]
    pub fn by_way_of(self, bridge: Option<Vec<u8>>) -> Self {
        Self { bridge: bridge.map(CertificateDer::from), ..self }
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    /// The validity of the own certificate, in seconds since the Unix epoch.
    pub fn validity(&self) -> Result<(i64, i64), BadCertificate> {
        let (_, read) = parse(&self.certificate)?;
        Ok((read.validity().not_before.timestamp(), read.validity().not_after.timestamp()))
    }

    /// The private key, the certificate and the trusted authorities, in PEM.
    pub fn to_pem(&self) -> String {
        let part = |tag: &str, bytes: &[u8]| pem::encode(&pem::Pem::new(tag, bytes));
        let trusted = self.trusted.iter().map(|it| part("CERTIFICATE", it));
        let own = [part("PRIVATE KEY", &self.key), part("CERTIFICATE", &self.certificate)];
        own.into_iter().chain(trusted).collect()
    }

    /// Parses what [`Credentials::to_pem`] has written.
    pub fn from_pem(text: &str) -> Result<Self, BadCertificate> {
        let bad = |why: &dyn fmt::Display| BadCertificate::new("not valid credentials", why);
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|error| bad(&error))?;
        let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes());
        let certificate = certificates
            .next()
            .ok_or_else(|| bad(&"the certificate is missing"))?
            .map_err(|error| bad(&error))?;
        let trusted = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
        if trusted.is_empty() {
            return Err(bad(&"the certificate authorities are missing"));
        }
        Ok(Self { trusted, certificate, bridge: None, key: key.secret_pkcs8_der().to_vec() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("subject", &Subject::of(&self.certificate))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_who_somebody_is_and_credentials_come_back_as_they_were_written() {
        let cluster = ClusterId::from("0123");
        let person = Subject::Person {
            cluster: cluster.clone(),
            name: "ann".into(),
            role: Role::Operator,
            token: TokenId::new("abc"),
        };
        for subject in [Subject::Manager { cluster, lineage: 3, node: NodeId(7) }, person] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.distinguished_name = subject.distinguished_name();
            let certificate = params.self_signed(&key).expect("a certificate").der().clone();
            assert_eq!(Subject::of(&certificate), Ok(subject));
            let whole = Credentials::new(vec![certificate.clone()], certificate, key.serialize_der());
            let text = whole.to_pem();
            let back = Credentials::from_pem(&text).expect("it was written by us");
            assert_eq!((back.to_pem(), back.trusted.len()), (text.clone(), 1));
            assert!(!format!("{whole:?}").contains("key"), "{whole:?}");
            for cut in [0, text.len() / 3, text.len() - 40] {
                assert!(Credentials::from_pem(&text[..cut]).is_err(), "cut at {cut}");
            }
        }
        let nobody = CertificateParams::default().self_signed(&KeyPair::generate().expect("a key"));
        assert!(Subject::of(nobody.expect("a certificate").der()).is_err());
    }
}
