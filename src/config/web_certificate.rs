//! The certificate of the web server: the user's own PEM files, checked and ready for use.
//!
//! The files are read with the configuration, so whatever is wrong with them is a problem of the
//! configuration, and a reload sees that their contents have changed. The key itself is kept by the TLS
//! library alone.

use super::layers::Layers;
use crate::files;
use openssl::{
    asn1::Asn1Time,
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::{self, AlpnError, SslAcceptor, SslContextRef, SslMethod, SslMode, SslSessionCacheMode},
    x509::X509,
};
use sha2::{Digest, Sha256};
use std::{fmt, fs, io, os::unix::fs::PermissionsExt, path::Path};

/// Maximum size of a file with certificates or a key.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The only protocol that the web server speaks, as ALPN writes it.
const PROTOCOL: &[u8] = b"\x08http/1.1";

/// A certificate with its chain and its key.
#[derive(Clone)]
pub struct WebCertificate {
    acceptor: SslAcceptor,
    /// Of the certificates and the key.
    sha256: [u8; 32],
}

impl WebCertificate {
    /// What makes a TLS connection of an accepted one.
    pub fn context(&self) -> &SslContextRef {
        self.acceptor.context()
    }
}

impl PartialEq for WebCertificate {
    fn eq(&self, other: &WebCertificate) -> bool {
        self.sha256 == other.sha256
    }
}

impl fmt::Debug for WebCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebCertificate").finish_non_exhaustive()
    }
}

/// Reads a certificate and its key, each given by the configuration's key and the file. Problems and warnings
/// are added to `layers`.
pub(super) fn read(
    layers: &mut Layers,
    (cert_key, cert): (&str, &Path),
    (key_key, key): (&str, &Path),
) -> Option<WebCertificate> {
    let mut problem = |name: &str, file: &Path, rule: String| {
        layers.add_problem(name, format!("{}: {rule}", file.display()));
    };
    let chain = read_chain(cert).map_err(|rule| problem(cert_key, cert, rule));
    let private = read_key(key).map_err(|rule| problem(key_key, key, rule));
    let (Ok(chain), Ok(private)) = (chain, private) else { return None };
    if let Err(rule) = check_pair(&chain, &private, key) {
        problem(cert_key, cert, rule);
        return None;
    }
    let certificate = match build(&chain, &private) {
        Ok(certificate) => certificate,
        Err(error) => {
            problem(cert_key, cert, format!("cannot be used: {error}"));
            return None;
        }
    };
    if let Some(text) = validity_warning(&chain[0]) {
        layers.add_warning(cert_key, &format!("{}: {text}", cert.display()));
    }
    if fs::metadata(key).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        let text = "this key is readable by all users of this machine; run chmod o-r on it";
        layers.add_warning(key_key, text);
    }
    Some(certificate)
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    files::read_bounded(path, MAX_FILE_BYTES).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; the service runs as a user of its own, so give its group access, or use systemd's credentials"
            }
            _ => "",
        };
        format!("cannot be read: {error}{advice}")
    })
}

/// The certificate of the server, which is the first, and those of its authorities.
fn read_chain(path: &Path) -> Result<Vec<X509>, String> {
    let chain = X509::stack_from_pem(&read_file(path)?).unwrap_or_default();
    if chain.is_empty() {
        return Err("has no certificate in PEM format (-----BEGIN CERTIFICATE-----)".to_string());
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PKey<Private>, String> {
    let pem = read_file(path)?;
    let mut is_encrypted = false;
    // Without an answer of its own the library would ask at the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |_| {
        is_encrypted = true;
        Ok(0)
    });
    key.map_err(|_| match is_encrypted {
        true => {
            "is encrypted, and nobody is there to give its password when camfire starts: decrypt it with \
                 'openssl pkey'"
                .to_string()
        }
        false => "has no private key in PEM format (PKCS#8, PKCS#1 or SEC1)".to_string(),
    })
}

/// Checks that the key is that of the first certificate.
fn check_pair(chain: &[X509], private: &PKey<Private>, key: &Path) -> Result<(), String> {
    let is_pair = |cert: &X509| cert.public_key().is_ok_and(|public| public.public_eq(private));
    match chain.iter().position(is_pair) {
        Some(0) => Ok(()),
        Some(_) => {
            Err("has the certificate of an authority first: that of this server must come first".into())
        }
        None => Err(format!("is not the certificate of the key in {}", key.display())),
    }
}

fn build(chain: &[X509], private: &PKey<Private>) -> Result<WebCertificate, ErrorStack> {
    let mut digest = Sha256::new();
    // TLS 1.2 and 1.3.
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    for (index, cert) in chain.iter().enumerate() {
        digest.update(cert.to_der()?);
        match index {
            0 => acceptor.set_certificate(cert)?,
            _ => acceptor.add_extra_chain_cert(cert.clone())?,
        }
    }
    digest.update(private.private_key_to_der()?);
    acceptor.set_private_key(private)?;
    acceptor.set_alpn_select_callback(|_, offered| {
        ssl::select_next_proto(PROTOCOL, offered).ok_or(AlpnError::NOACK)
    });
    // Clients keep their sessions themselves, in tickets. An idle connection keeps no buffers.
    acceptor.set_session_cache_mode(SslSessionCacheMode::OFF);
    acceptor.set_mode(SslMode::RELEASE_BUFFERS);
    Ok(WebCertificate { acceptor: acceptor.build(), sha256: digest.finalize().into() })
}

/// Why browsers will refuse a certificate now.
fn validity_warning(cert: &X509) -> Option<String> {
    let now = Asn1Time::days_from_now(0).ok()?;
    if cert.not_after() < now {
        return Some(format!("has expired ({}), so browsers refuse it", cert.not_after()));
    }
    (cert.not_before() > now).then(|| {
        format!("is not valid before {}, so browsers refuse it; is the clock right?", cert.not_before())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Inputs, Main};
    use openssl::{
        asn1::Asn1Integer, bn::BigNum, ec::EcGroup, ec::EcKey, hash::MessageDigest, nid::Nid, rsa::Rsa,
        symm::Cipher, x509::X509Name,
    };
    use std::path::PathBuf;

    /// A certificate in PEM format, valid from and to these days from the epoch.
    fn certificate(key: &PKey<Private>, from: i64, to: i64) -> Vec<u8> {
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", "porch").unwrap();
        let name = name.build();
        let day = |day: i64| Asn1Time::from_unix(day * 86_400).unwrap();
        let mut cert = X509::builder().unwrap();
        cert.set_version(2).unwrap();
        cert.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(1).unwrap()).unwrap()).unwrap();
        cert.set_subject_name(&name).unwrap();
        cert.set_issuer_name(&name).unwrap();
        cert.set_pubkey(key).unwrap();
        cert.set_not_before(&day(from)).unwrap();
        cert.set_not_after(&day(to)).unwrap();
        cert.sign(key, MessageDigest::sha256()).unwrap();
        cert.build().to_pem().unwrap()
    }

    const ALWAYS: (i64, i64) = (0, 80_000);

    fn ec_key() -> EcKey<Private> {
        EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()
    }

    /// Files in a folder of their own, and what is loaded from a configuration.
    struct Files(tempfile::TempDir);

    impl Files {
        fn with(files: &[(&str, &[u8])]) -> Files {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let path = folder.path().join(name);
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            Files(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Loads a configuration that names these files. `credentials`: systemd passes those of the folder.
        fn load(&self, toml: &str, credentials: bool) -> Result<config::Loaded, String> {
            let text = format!("{toml}\n[cameras.a]\nsource = 'test://'\n")
                .replace("{dir}", &self.0.path().display().to_string());
            let main = Main::Text { name: "t".into(), text };
            let credentials = credentials.then(|| self.0.path().to_path_buf());
            config::load(&Inputs { main, credentials, ..Inputs::default() })
                .map_err(|problems| problems.to_string())
        }

        /// The certificate and the warnings of the files `cert` and `key`.
        fn both(&self) -> Result<(WebCertificate, Vec<String>), String> {
            let loaded = self.load("web.cert_file = '{dir}/cert'\nweb.key_file = '{dir}/key'", false)?;
            Ok((loaded.config.web.certificate.expect("there is one"), loaded.warnings))
        }
    }

    #[test]
    fn all_usual_forms_of_a_key_are_read() {
        let (ec, rsa) = (ec_key(), Rsa::generate(2048).unwrap());
        let (ec_pkey, rsa_pkey) =
            (PKey::from_ec_key(ec.clone()).unwrap(), PKey::from_rsa(rsa.clone()).unwrap());
        let forms = [
            (&ec_pkey, ec_pkey.private_key_to_pem_pkcs8().unwrap()),
            (&ec_pkey, ec.private_key_to_pem().unwrap()),
            (&rsa_pkey, rsa_pkey.private_key_to_pem_pkcs8().unwrap()),
            (&rsa_pkey, rsa.private_key_to_pem().unwrap()),
        ];
        for (key, pem) in &forms {
            let cert = certificate(key, ALWAYS.0, ALWAYS.1);
            let first = String::from_utf8_lossy(pem).lines().next().unwrap_or_default().to_string();
            let (_, warnings) = Files::with(&[("cert", &cert), ("key", pem)]).both().expect(&first);
            assert_eq!(warnings, [""; 0], "{first}");
        }
        // Both in one file, and another one's certificate behind it.
        let cert = certificate(&ec_pkey, ALWAYS.0, ALWAYS.1);
        let authority = certificate(&rsa_pkey, ALWAYS.0, ALWAYS.1);
        let all = [cert, authority, forms[0].1.clone()].concat();
        let files = Files::with(&[("all", &all)]);
        let loaded = files.load("web.cert_file = '{dir}/all'\nweb.key_file = '{dir}/all'", false).unwrap();
        assert!(loaded.config.web.certificate.is_some());
    }

    #[test]
    fn only_other_contents_are_another_certificate() {
        let key = PKey::from_ec_key(ec_key()).unwrap();
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        let cert = certificate(&key, ALWAYS.0, ALWAYS.1);
        let read = |cert: &[u8]| Files::with(&[("cert", cert), ("key", &pem)]).both().unwrap().0;
        assert!(read(&cert) == read(&[b"a comment\n", &cert[..]].concat()));
        assert!(read(&cert) != read(&certificate(&key, ALWAYS.0, ALWAYS.1 + 1)));
        assert!(!format!("{:?}", read(&cert)).contains("KEY"));
    }

    #[test]
    fn credentials_take_the_place_of_the_files() {
        let key = PKey::from_ec_key(ec_key()).unwrap();
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        let cert = certificate(&key, ALWAYS.0, ALWAYS.1);
        let files = Files::with(&[("web-cert", &cert), ("web-key", &pem), ("own", &cert)]);
        let certificate = |toml: &str, credentials| {
            files.load(toml, credentials).map(|loaded| loaded.config.web.certificate)
        };
        assert!(certificate("", true).unwrap().is_some() && certificate("", false).unwrap().is_none());
        assert!(certificate("web.cert_file = '{dir}/own'", true).unwrap().is_some());
        let problem = certificate("web.cert_file = '{dir}/own'", false).unwrap_err();
        assert!(problem.contains("web.cert_file") && problem.contains("requires web.key_file"), "{problem}");
        fs::remove_file(files.path("web-cert")).unwrap();
        let problem = certificate("", true).unwrap_err();
        assert!(problem.contains("web-key: requires web.cert_file"), "{problem}");
    }

    #[test]
    fn what_is_wrong_is_told_with_key_and_file() {
        let (ec, rsa) = (ec_key(), Rsa::generate(2048).unwrap());
        let key = PKey::from_ec_key(ec.clone()).unwrap();
        let other = PKey::from_rsa(rsa.clone()).unwrap();
        let (cert, pem) = (certificate(&key, ALWAYS.0, ALWAYS.1), key.private_key_to_pem_pkcs8().unwrap());
        let other_cert = certificate(&other, ALWAYS.0, ALWAYS.1);
        let chain_backwards = [other_cert.as_slice(), &cert].concat();
        let (cipher, password) = (Cipher::aes_256_cbc(), b"secret");
        let encrypted = key.private_key_to_pem_pkcs8_passphrase(cipher, password).unwrap();
        let encrypted_old = ec.private_key_to_pem_passphrase(cipher, password).unwrap();
        let weak = PKey::from_rsa(Rsa::generate(512).unwrap()).unwrap();
        let (weak_cert, weak_pem) =
            (certificate(&weak, ALWAYS.0, ALWAYS.1), weak.private_key_to_pem_pkcs8().unwrap());
        for (cert, pem, name, expected) in [
            (&other_cert, &pem, "cert", "is not the certificate of the key in"),
            (&chain_backwards, &pem, "cert", "must come first"),
            (&cert, &encrypted, "key", "is encrypted"),
            (&cert, &encrypted_old, "key", "is encrypted"),
            (&cert, &cert, "key", "has no private key"),
            (&pem, &pem, "cert", "has no certificate"),
            (&Vec::new(), &pem, "cert", "has no certificate"),
            (&weak_cert, &weak_pem, "cert", "cannot be used"),
        ] {
            let files = Files::with(&[("cert", cert), ("key", pem)]);
            let problem = files.both().unwrap_err();
            let file = files.path(name).display().to_string();
            assert!(problem.contains(&format!("web.{name}_file")) && problem.contains(&file), "{problem}");
            assert!(problem.contains(expected), "{expected}: {problem}");
            assert!(problem.contains("1 problem in"), "{problem}");
        }
        let problem = Files::with(&[]).both().unwrap_err();
        assert!(problem.contains("web.cert_file") && problem.contains("web.key_file"), "{problem}");
    }

    #[test]
    fn what_browsers_refuse_is_a_warning() {
        let key = PKey::from_ec_key(ec_key()).unwrap();
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        for (from, to, expected) in
            [(0, 1, "has expired (Jan  2 00:00:00 1970 GMT)"), (80_000, 80_001, "is not valid before")]
        {
            let files = Files::with(&[("cert", &certificate(&key, from, to)), ("key", &pem)]);
            let warnings = files.both().unwrap().1;
            assert!(warnings.len() == 1 && warnings[0].contains(expected), "{warnings:?}");
        }
        let files = Files::with(&[("cert", &certificate(&key, ALWAYS.0, ALWAYS.1)), ("key", &pem)]);
        fs::set_permissions(files.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
        let warnings = files.both().unwrap().1;
        assert!(warnings.len() == 1 && warnings[0].contains("chmod o-r"), "{warnings:?}");
    }
}
