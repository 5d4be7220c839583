//! Who somebody is, as X.509 certificates say it.

use std::fmt;

use model::access::{Role, TokenId};
use model::{ClusterId, NodeId};
use rcgen::{CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// The attribute of a subject that says by which token a person was let in, or of which lineage a manager is:
/// X.520 `serialNumber`.
const SERIAL: [u64; 4] = [2, 5, 4, 5];

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A manager belongs to one lineage of its cluster.
    Manager { cluster: ClusterId, lineage: u32, node: NodeId },
    /// A person is known as long as the token of the login is.
    Person { cluster: ClusterId, name: String, role: Role, token: TokenId },
}

/// What one side of a connection presents, and whom it trusts.
#[derive(Clone)]
pub struct Credentials {
    /// Certificate authorities.
    pub trusted: Vec<CertificateDer<'static>>,
    /// Its own certificate, and the key of it.
    pub certificate: CertificateDer<'static>,
    /// What leads from it to an authority that others may trust alone.
    pub(crate) bridge: Option<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// A key, and the request for a certificate of it.
pub struct CertificateRequest {
    key: KeyPair,
    der: Vec<u8>,
}

/// Why a certificate, or a text that should hold some, is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCertificate(pub String);

impl BadCertificate {
    fn new(what: &str, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

impl Subject {
    pub fn role(&self) -> Role {
        match self {
            Subject::Manager { .. } => Role::Manager,
            Subject::Person { role, .. } => *role,
        }
    }

    /// The name in its written form.
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

    /// Whom a certificate names, whoever has signed it.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, BadCertificate> {
        let bad = |why: &str| BadCertificate::new("a certificate that is none of ours", why);
        let (_, read) = X509Certificate::from_der(certificate).map_err(|error| bad(&error.to_string()))?;
        let name = read.subject();
        let one = |found: Option<&str>, what| found.map(str::to_owned).ok_or_else(|| bad(what));
        let cluster = ClusterId::new(one(first(name.iter_organization()), "it names no cluster")?);
        let common = one(first(name.iter_common_name()), "it names nobody")?;
        let role = one(first(name.iter_organizational_unit()), "it names no role")?;
        match role.parse::<Role>().map_err(|why| bad(&why))? {
            Role::Manager => {
                let node = common.parse().map_err(|_| bad("its manager has no number"))?;
                let lineage = serial(name).and_then(|text| text.parse().ok());
                let lineage = lineage.ok_or_else(|| bad("its manager has no lineage"))?;
                Ok(Subject::Manager { cluster, lineage, node: NodeId(node) })
            }
            role => {
                let token = TokenId::new(one(serial(name), "it names no token")?);
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
    /// Draws a key.
    pub fn new() -> Result<Self, BadCertificate> {
        let bad = |error: rcgen::Error| BadCertificate::new("no key could be made", error);
        let key = KeyPair::generate().map_err(bad)?;
        let mut params = CertificateParams::default();
        // Whoever signs says who it is; what is asked for is not looked at.
        params.distinguished_name = DistinguishedName::new();
        let der = params.serialize_request(&key).map_err(bad)?.der().to_vec();
        Ok(Self { key, der })
    }

    /// The request, as PKCS #10 in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// With the certificate that was given for it.
    pub fn granted(self, certificate: Vec<u8>, trusted: Vec<Vec<u8>>) -> Credentials {
        Credentials {
            trusted: trusted.into_iter().map(CertificateDer::from).collect(),
            certificate: CertificateDer::from(certificate),
            bridge: None,
            key: self.key.serialize_der(),
        }
    }
}

/// Who signed a certificate, as X.509 names them, and when it ceases to be valid, in seconds since the Unix
/// epoch.
pub fn issued(certificate: &CertificateDer<'_>) -> Result<(Vec<u8>, i64), BadCertificate> {
    let (_, read) = parse(certificate)?;
    Ok((read.issuer().as_raw().to_vec(), read.validity().not_after.timestamp()))
}

/// Whom a certificate names, as X.509 does.
pub fn named(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, BadCertificate> {
    Ok(parse(certificate)?.1.subject().as_raw().to_vec())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<(&'a [u8], X509Certificate<'a>), BadCertificate> {
    X509Certificate::from_der(certificate)
        .map_err(|error| BadCertificate::new("a certificate cannot be read", error))
}

/// Reads a request whose sender proves to have the key.
pub fn read_request(der: &[u8]) -> Result<CertificateSigningRequestParams, BadCertificate> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
        .map_err(|error| BadCertificate::new("the request for a certificate cannot be read", error))
}

/// What the key of a request for a certificate is known by: whoever repeats the request has the same.
pub fn key_digest(der: &[u8]) -> Result<String, BadCertificate> {
    use rcgen::PublicKeyData;
    let request = read_request(der)?;
    let digest = Sha256::digest(request.public_key.subject_public_key_info());
    Ok(data_encoding::HEXLOWER.encode(&digest))
}

impl Credentials {
    /// Of a key in PKCS #8.
    pub fn new(
        trusted: Vec<CertificateDer<'static>>,
        certificate: CertificateDer<'static>,
        key: Vec<u8>,
    ) -> Self {
        Self { trusted, certificate, bridge: None, key }
    }

    /// Shown together with a certificate that another authority has signed for the one that signed this.
    #[must_use]
    pub fn by_way_of(self, bridge: Option<Vec<u8>>) -> Self {
        Self { bridge: bridge.map(CertificateDer::from), ..self }
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    /// When the own certificate begins and ceases to be valid, in seconds since the Unix epoch.
    pub fn validity(&self) -> Result<(i64, i64), BadCertificate> {
        let (_, read) = parse(&self.certificate)?;
        Ok((read.validity().not_before.timestamp(), read.validity().not_after.timestamp()))
    }

    /// As a text: the key, the certificate, and the authorities that are trusted.
    pub fn to_pem(&self) -> String {
        let part = |tag: &str, bytes: &[u8]| pem::encode(&pem::Pem::new(tag, bytes));
        let trusted = self.trusted.iter().map(|it| part("CERTIFICATE", it));
        let own = [part("PRIVATE KEY", &self.key), part("CERTIFICATE", &self.certificate)];
        own.into_iter().chain(trusted).collect()
    }

    /// The other way round.
    pub fn from_pem(text: &str) -> Result<Self, BadCertificate> {
        let bad = |why: &dyn fmt::Display| BadCertificate::new("these are no credentials", why);
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|error| bad(&error))?;
        let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes());
        let certificate = certificates
            .next()
            .ok_or_else(|| bad(&"the certificate is missing"))?
            .map_err(|error| bad(&error))?;
        let trusted = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
        if trusted.is_empty() {
            return Err(bad(&"no authority is trusted"));
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
