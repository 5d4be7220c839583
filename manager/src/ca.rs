//! The certificate authority: creates it and signs certificates. It is in the replicated state, so every
//! manager can sign.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::{BadCertificate, Credentials, Subject};
use model::access::{Authorities, Authority, Secret};
use model::{ClusterId, NodeId, Role};
use raft::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;

/// How far certificates are backdated, to tolerate clock differences.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// The years in which an authority is valid: all of them, whatever the clock said when it was made. It ends by a rotation.
const AUTHORITY_YEARS: (i32, i32) = (1970, 9999);

fn bad(error: rcgen::Error) -> BadCertificate {
    BadCertificate(format!("a certificate could not be created: {error}"))
}

fn valid(params: &mut CertificateParams, lasts: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + lasts).into();
}

/// Creates the first authority of a cluster.
pub(crate) fn create(cluster: &ClusterId) -> Result<Authority, BadCertificate> {
    make(cluster, None).map(|(authority, _)| authority)
}

/// Creates the next authority, and its certificate cross-signed by the previous one.
pub(crate) fn follow(
    cluster: &ClusterId,
    before: &Authority,
) -> Result<(Authority, Arc<[u8]>), BadCertificate> {
    make(cluster, Some(before))
}

fn make(cluster: &ClusterId, before: Option<&Authority>) -> Result<(Authority, Arc<[u8]>), BadCertificate> {
    let key = KeyPair::generate().map_err(bad)?;
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(AUTHORITY_YEARS.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(AUTHORITY_YEARS.1, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster.as_str());
    params.distinguished_name.push(DnType::CommonName, format!("infrakit {:08x}", rand::random::<u32>()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let bridge: Arc<[u8]> = match before {
        Some(before) => params.signed_by(&key, &issuer(before)?).map_err(bad)?.der().to_vec().into(),
        None => Arc::default(),
    };
    let certificate = params.self_signed(&key).map_err(bad)?.der().to_vec().into();
    Ok((Authority { certificate, key: Secret::new(key.serialize_der()) }, bridge))
}

fn issuer(authority: &Authority) -> Result<Issuer<'static, KeyPair>, BadCertificate> {
    let key = KeyPair::try_from(authority.key.expose()).map_err(bad)?;
    Issuer::from_ca_cert_der(&CertificateDer::from(&authority.certificate[..]), key).map_err(bad)
}

/// Signs a certificate for `subject` with the key of `request`. Returns it in DER.
pub(crate) fn sign(
    authority: &Authority,
    request: &[u8],
    subject: &Subject,
    lasts: Duration,
) -> Result<Vec<u8>, BadCertificate> {
    if let Subject::Person { role: Role::Manager, .. } = subject {
        return Err(BadCertificate("a user cannot have the role manager".into()));
    }
    let mut request = api::read_request(request)?;
    let mut params = CertificateParams::default();
    valid(&mut params, lasts);
    params.distinguished_name = subject.distinguished_name();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if let Subject::Manager { .. } = subject {
        // Only a manager may serve as one.
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![SanType::DnsName(api::tls::SERVER_NAME.try_into().map_err(bad)?)];
    }
    request.params = params;
    Ok(request.signed_by(&issuer(authority)?).map_err(bad)?.der().to_vec())
}

/// The subject of the certificate of a manager, in the lineage of `identity`.
pub(crate) fn subject(identity: &Identity, node: NodeId) -> Subject {
    Subject::Manager { cluster: identity.cluster.clone(), lineage: identity.lineage, node }
}

/// New credentials of this manager, signed by itself.
pub(crate) fn own(
    known: &Authorities,
    identity: &Identity,
    lasts: Duration,
) -> Result<Credentials, BadCertificate> {
    let request = api::CertificateRequest::new()?;
    let subject = subject(identity, identity.node);
    let certificate = sign(&known.signing, request.der(), &subject, lasts)?;
    let trusted = known.trusted().map(|it| it.to_vec()).collect();
    Ok(request.granted(certificate, trusted).by_way_of(known.bridge().map(|it| it.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_says_who_somebody_is_whatever_they_ask_to_be() {
        let cluster = ClusterId::from("0123");
        let authority = create(&cluster).expect("an authority");
        let lasts = Duration::from_secs(3600);
        let known = Authorities::new(authority.clone(), model::LogIndex(0));
        let identity = Identity { cluster: cluster.clone(), lineage: 2, node: NodeId(3) };
        let credentials = own(&known, &identity, lasts).expect("it signs");
        let subject = Subject::of(&credentials.certificate);
        assert_eq!(subject, Ok(super::subject(&identity, NodeId(3))));
        let (from, to) = credentials.validity().expect("it can be read");
        assert_eq!((to - from) as u64, 3600 + BACKDATED.as_secs());
        // Somebody who asks to be an authority is none.
        let key = KeyPair::generate().expect("a key");
        let mut greedy = CertificateParams::default();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.distinguished_name.push(DnType::OrganizationalUnitName, "admin");
        let person = Subject::Person {
            cluster,
            name: "ann".into(),
            role: Role::Viewer,
            token: model::access::TokenId::new("t"),
        };
        if let Ok(request) = greedy.serialize_request(&key) {
            let signed = sign(&authority, request.der(), &person, lasts).expect("it signs");
            let signed = CertificateDer::from(signed);
            assert_eq!(Subject::of(&signed), Ok(person.clone()));
            assert!(!is_authority(&signed));
        }
        assert!(is_authority(&CertificateDer::from(&authority.certificate[..])));
        let Subject::Person { cluster, name, token, .. } = person.clone() else { unreachable!("it is one") };
        let impostor = Subject::Person { cluster, name, role: Role::Manager, token };
        let request = api::CertificateRequest::new().expect("a key");
        assert!(
            sign(&authority, request.der(), &impostor, lasts).is_err(),
            "a user cannot have the role manager"
        );
        for rubbish in [&b""[..], b"rubbish", &[0x30; 400]] {
            assert!(sign(&authority, rubbish, &person, lasts).is_err());
        }
    }

    fn is_authority(certificate: &CertificateDer<'_>) -> bool {
        let (_, read) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
        read.is_ca()
    }
}
