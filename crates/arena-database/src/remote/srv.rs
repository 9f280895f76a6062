//! What stands behind a `mongodb+srv://` name: the hosts of its SRV record and the options of its
//! TXT record, by the rules that MongoDB's drivers follow. Seats have no name service, so this is
//! done for them, once.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;

use super::RemoteError;
use super::address::{Host, MongodbAddress};

/// What a TXT record may say; anything else could weaken a connection.
const FROM_TXT: [&str; 3] = ["authSource", "replicaSet", "loadBalanced"];

/// Who answers questions about names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolver {
    /// What this machine is configured with.
    #[default]
    System,
    /// This server, over UDP and TCP.
    At(SocketAddr),
}

impl Resolver {
    fn open(self) -> Result<TokioResolver, NetError> {
        match self {
            Self::System => TokioResolver::builder_tokio()?.build(),
            Self::At(server) => {
                let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
                for connection in &mut connections {
                    connection.port = server.port();
                }
                let server = NameServerConfig::new(server.ip(), true, connections);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, Default::default()).build()
            }
        }
    }
}

/// Returns the address without an SRV name; one that has none is returned as it is.
///
/// # Errors
/// When there is no such record, or it breaks the rules.
pub(super) async fn resolve(
    mut address: MongodbAddress,
    resolver: Resolver,
) -> Result<MongodbAddress, RemoteError> {
    if !address.is_srv {
        return Ok(address);
    }
    let name = address.hosts[0].name.clone();
    let failed = |source: NetError| RemoteError::Name {
        name: name.clone(),
        source: Box::new(source),
    };
    let resolver = resolver.open().map_err(failed)?;
    let service = address.option("srvServiceName").unwrap_or("mongodb");
    let found = resolver
        .srv_lookup(format!("_{service}._tcp.{name}."))
        .await
        .map_err(failed)?;
    let mut hosts: Vec<Host> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Host {
                name: srv
                    .target
                    .to_utf8()
                    .trim_end_matches('.')
                    .to_ascii_lowercase(),
                port: srv.port,
            }),
            _ => None,
        })
        .collect();
    hosts.sort();
    if let Some(host) = hosts.iter().find(|host| !is_of(&name, &host.name)) {
        return Err(RemoteError::ForeignHost {
            name,
            host: host.name.clone(),
        });
    }
    if let Some(most) = address
        .option("srvMaxHosts")
        .and_then(|most| most.parse().ok())
        && most > 0
    {
        hosts.truncate(most);
    }
    match resolver.txt_lookup(format!("{name}.")).await {
        Ok(found) => {
            let texts = found
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::TXT(text) => Some(text.txt_data.concat()),
                    _ => None,
                });
            for (option, value) in txt_options(&name, texts.collect())? {
                address.default_option(&option, &value);
            }
        }
        Err(error) if error.is_no_records_found() => {}
        Err(error) => return Err(failed(error)),
    }
    // The scheme asks for TLS unless the URI says otherwise.
    if address.option("ssl").is_none() {
        address.default_option("tls", "true");
    }
    Ok(address.resolved(hosts))
}

/// Returns whether a record of `name` may lead to `host`: both are below the same domain.
fn is_of(name: &str, host: &str) -> bool {
    let labels = |name: &str| name.split('.').count();
    let domain = match name.split_once('.') {
        Some((_, domain)) if labels(name) > 2 => domain,
        _ => name,
    };
    host.strip_suffix(domain)
        .is_some_and(|front| front.ends_with('.'))
        && (labels(name) > 2 || labels(host) > labels(name))
}

fn txt_options(name: &str, texts: Vec<Vec<u8>>) -> Result<Vec<(String, String)>, RemoteError> {
    let wrong = |text: &str| RemoteError::Txt {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let text = match texts.as_slice() {
        [] => return Ok(Vec::new()),
        [text] => String::from_utf8_lossy(text).into_owned(),
        [_, ..] => return Err(wrong("more than one record")),
    };
    let options = text.split('&').map(|pair| {
        let (option, value) = pair.split_once('=').ok_or_else(|| wrong(pair))?;
        let is_allowed = FROM_TXT
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(option));
        if is_allowed && !value.is_empty() {
            Ok((option.to_owned(), value.to_owned()))
        } else {
            Err(wrong(pair))
        }
    });
    options.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_leads_to_hosts_of_its_own_domain_only() {
        assert!(is_of(
            "cluster0.abc.mongodb.net",
            "shard-00.abc.mongodb.net"
        ));
        assert!(!is_of("cluster0.abc.mongodb.net", "shard-00.evil.net"));
        assert!(!is_of("cluster0.abc.mongodb.net", "evilabc.mongodb.net"));
        assert!(!is_of("cluster0.abc.mongodb.net", "abc.mongodb.net"));
        assert!(is_of("example.com", "db.example.com"));
        assert!(!is_of("example.com", "example.com"));
    }

    #[test]
    fn a_txt_record_chooses_database_and_set_and_nothing_else() {
        let text = |text: &str| text.as_bytes().into();
        let found = txt_options("x", vec![text("authSource=admin&replicaSet=rs0")]).unwrap();
        assert_eq!(found.len(), 2);
        for texts in [
            vec![text("tlsInsecure=true")],
            vec![text("authSource")],
            vec![text("authSource=")],
            vec![text("replicaSet=a"), text("replicaSet=b")],
        ] {
            assert!(txt_options("x", texts).is_err());
        }
    }
}
