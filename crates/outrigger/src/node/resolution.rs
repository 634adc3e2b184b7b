//! `nameResolution` of the configuration: where apps are looked for that this machine does not have.
//!
//! | component | apps are found |
//! |---|---|
//! | `static` | in a list that stands in the configuration |
//! | `structuredformat` | in a list that is text or a file, YAML or JSON |
//! | `dns`, `nameformat` | by A and AAAA, or SRV records of a name made of the app's id |
//! | `kubernetes` | the same, by the name that a headless service has |
//! | `mdns`, `sqlite` | on this machine only, which needs nothing |
//!
//! The first app of the process whose configuration names a component says it for all.

use crate::failure::{Exit, Failure};
use outrigger_calls::{
    Lookup, LookupSettings,
    discover::{
        AppSources, At, DnsApps, DnsClient, DnsSettings, FindError, FixedList, Found, ListedApps,
        Place, Source, listed,
    },
};
use outrigger_kernel::{BoxFuture, World};
use outrigger_resources::{Configuration, NameResolution, plain_value};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Where runtimes listen for one another when nothing else is said; what deployments of the reference say.
const PEER_PORT: u16 = 50_002;
/// The domain of a cluster's services.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// How long what was read of a file holds.
const FILE_FOR: Duration = Duration::from_secs(10);
/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How many DNS servers can be named.
const SERVERS_MAX: usize = 3;

/// What a configuration says of name resolution.
#[derive(Default)]
pub(crate) struct Resolution {
    pub(crate) lookup: Option<Arc<Lookup>>,
    /// What the user should be told.
    pub(crate) notices: Vec<String>,
}

impl Resolution {
    /// Reads what `configuration` says.
    pub(crate) fn read(
        configuration: &Configuration,
        world: &Arc<dyn World>,
    ) -> Result<Self, Failure> {
        let NameResolution { component, version, configuration: said } =
            &configuration.name_resolution;
        let Some(component) = component.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let fail = |reason: String| {
            let what = format!("name resolution by {component} cannot be used");
            let failure = Failure::new("OUTR-0032", Exit::Usage, what).why(reason);
            match configuration.origins.last() {
                Some(origin) => failure.at(origin),
                None => failure,
            }
        };
        if version.as_deref().is_some_and(|version| !version.eq_ignore_ascii_case("v1")) {
            return Err(fail("there is only version v1 of it".to_owned()));
        }
        let mut fields = Fields::new(said.as_ref()).map_err(&fail)?;
        let zone = fields.text("zone").map_err(&fail)?;
        let sources = match component.to_ascii_lowercase().trim_start_matches("nameresolution.") {
            "static" => list(&mut fields, world),
            "structuredformat" => structured(&mut fields, world),
            "dns" | "nameformat" => by_name(&mut fields, world),
            "kubernetes" => cluster(&mut fields, world),
            "mdns" | "sqlite" | "hashicorp.sqlite" => {
                let told = format!(
                    "name resolution by {component}: apps of this machine are found without it; apps of other hosts are \
                     found by static, dns, structuredformat or kubernetes"
                );
                return Ok(Self { lookup: None, notices: vec![told] });
            }
            other => Err(format!(
                "there is no {other} here; there are static, structuredformat, dns, nameformat and kubernetes. What \
                 Consul or a cloud's map knows can be asked for by dns"
            )),
        };
        let sources = sources.map_err(&fail)?;
        let notices = fields.unread().map(|name| {
            format!("name resolution by {component} has no setting called {name}; it has no effect")
        });
        let notices = notices.collect();
        let settings = LookupSettings { zone: zone.map(Into::into), ..LookupSettings::default() };
        let lookup = Lookup::new(Arc::clone(world), sources, settings);
        Ok(Self { lookup: Some(lookup), notices })
    }
}

type Sources = Result<Arc<dyn AppSources>, String>;

/// The settings of a component, each taken once.
struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn new(said: Option<&Value>) -> Result<Self, String> {
        match said {
            None | Some(Value::Null) => Ok(Self(BTreeMap::new())),
            Some(Value::Object(fields)) => Ok(Self(fields.clone().into_iter().collect())),
            Some(_) => Err("nameResolution.configuration must be a mapping".to_owned()),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let key = self.0.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone();
        self.0.remove(&key).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(format!("{name} must be a text")),
        }
    }

    fn port(&mut self) -> Result<Option<u16>, String> {
        let Some(text) = self.text("port")? else { return Ok(None) };
        let port = text.parse().ok().filter(|port| *port != 0);
        port.map(Some).ok_or_else(|| format!("port must be a port, not {text:?}"))
    }

    /// The servers that are named, or what this machine has.
    fn dns(&mut self, world: &Arc<dyn World>) -> Result<DnsClient, String> {
        let Some(said) = self.take("servers") else {
            return Ok(DnsClient::system(Arc::clone(world)));
        };
        let texts = texts(&said).ok_or("servers must be a list of addresses")?;
        let servers = texts.iter().map(|text| {
            let whole = text.parse::<SocketAddr>().ok();
            let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)).ok();
            whole.or(bare).ok_or_else(|| format!("{text:?} is not the address of a DNS server"))
        });
        let servers = servers.take(SERVERS_MAX).collect::<Result<Vec<_>, _>>()?;
        let settings = DnsSettings { servers, ..DnsSettings::system() };
        Ok(DnsClient::new(Arc::clone(world), settings))
    }

    fn unread(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}

/// The texts of a list, or of one text with commas.
fn texts(value: &Value) -> Option<Vec<String>> {
    let several = |text: &str| {
        let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        parts.map(ToOwned::to_owned).collect()
    };
    match value {
        Value::String(text) => Some(several(text)),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(ToOwned::to_owned)).collect(),
        _ => None,
    }
}

fn list(fields: &mut Fields, world: &Arc<dyn World>) -> Sources {
    let said = fields.take("apps").ok_or("it has no apps")?;
    let Value::Object(apps) = said else {
        return Err("apps must be a mapping from app ids to places".to_owned());
    };
    let dns = fields.dns(world)?;
    let places = apps.iter().map(|(app, said)| {
        let texts = texts(said).ok_or_else(|| format!("apps.{app} must be a list of places"))?;
        let read = FixedList::parse(&texts.join("\n")).map_err(|bad| format!("apps.{app}: {bad}"));
        Ok((app.clone(), read?.places().to_vec()))
    });
    let places = places.collect::<Result<Vec<_>, String>>()?;
    Ok(Arc::new(ListedApps::new(places, &dns)))
}

fn structured(fields: &mut Fields, world: &Arc<dyn World>) -> Sources {
    let kind = fields.text("structuredType")?.ok_or("it has no structuredType")?;
    let dns = fields.dns(world)?;
    match kind.to_ascii_lowercase().as_str() {
        "json" | "yaml" => {
            let text = fields.text("stringValue")?.ok_or("it has no stringValue")?;
            Ok(Arc::new(ListedApps::new(instances(&text)?, &dns)))
        }
        "jsonfile" | "yamlfile" => {
            let path = PathBuf::from(fields.text("filePath")?.ok_or("it has no filePath")?);
            // A mistake in it should be told now, not at the first call.
            read_file(&path)?;
            Ok(Arc::new(FileApps { path, dns }))
        }
        _ => Err(format!("structuredType must be json, yaml, jsonFile or yamlFile, not {kind:?}")),
    }
}

/// Reads `appInstances`.
fn instances(text: &str) -> Result<HashMap<String, Vec<Place>>, String> {
    let value = plain_value(text)?;
    let apps = value.get("appInstances").and_then(Value::as_object);
    let apps =
        apps.ok_or("it has no appInstances, a mapping from app ids to lists of instances")?;
    let places = apps.iter().map(|(app, list)| {
        let list = list.as_array().ok_or_else(|| format!("appInstances.{app} must be a list"))?;
        let read = list
            .iter()
            .map(|one| instance(one).map_err(|reason| format!("an instance of {app}: {reason}")));
        Ok((app.clone(), read.collect::<Result<_, String>>()?))
    });
    places.collect()
}

fn instance(value: &Value) -> Result<Place, String> {
    let fields = value.as_object().ok_or("it must be a mapping")?;
    let text = |fields: &Map<String, Value>, name: &str| match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let port = text(fields, "port").ok_or("it has no port")?;
    let host = ["domain", "ipv4", "ipv6"].into_iter().find_map(|name| text(fields, name));
    let host = host.ok_or("it has none of domain, ipv4 and ipv6")?;
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
    let list = FixedList::parse(&format!("{host}:{port}")).map_err(|bad| bad.to_string())?;
    let mut place = list.places().first().cloned().ok_or("it has no place")?;
    let more = fields.get("extendedInfo").and_then(Value::as_object);
    if let Some(weight) = more.and_then(|more| text(more, "weight")) {
        place.weight =
            weight.parse().map_err(|_| format!("weight must be a number: {weight:?}"))?;
    }
    place.zone = more.and_then(|more| text(more, "zone")).map(Into::into);
    Ok(place)
}

fn read_file(path: &PathBuf) -> Result<HashMap<String, Vec<Place>>, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(|error| named(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(named(&"it is larger than 16 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    instances(&text).map_err(|error| named(&error))
}

/// Apps listed in a file that may change.
#[derive(Clone, Debug)]
struct FileApps {
    path: PathBuf,
    dns: DnsClient,
}

impl AppSources for FileApps {
    fn source(&self, app_id: &str, _namespace: &str) -> Option<Arc<dyn Source>> {
        let (apps, app_id) = (self.clone(), app_id.to_owned());
        Some(Arc::new(FileApp { apps, app_id, read: Mutex::default() }))
    }
}

/// Places, and the source made of them.
type Listed = (Vec<Place>, Arc<dyn Source>);

#[derive(Debug)]
struct FileApp {
    apps: FileApps,
    app_id: String,
    /// What the file said last, and the source made of it, which remembers what DNS said.
    read: Mutex<Option<Listed>>,
}

impl Source for FileApp {
    fn find(&self) -> BoxFuture<'_, Result<Found, FindError>> {
        Box::pin(async {
            let mut apps = read_file(&self.apps.path).map_err(FindError)?;
            let places = apps.remove(&self.app_id).unwrap_or_default();
            let source = {
                let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
                match &*read {
                    Some((same, source)) if *same == places => Arc::clone(source),
                    _ => {
                        let source = listed(places.clone(), &self.apps.dns);
                        *read = Some((places, Arc::clone(&source)));
                        source
                    }
                }
            };
            let mut found = source.find().await?;
            found.valid_for = Some(found.valid_for.unwrap_or(FILE_FOR).min(FILE_FOR));
            Ok(found)
        })
    }
}

fn by_name(fields: &mut Fields, world: &Arc<dyn World>) -> Sources {
    let name = fields.text("name")?;
    let name = name.map_or_else(|| fields.text("format"), |name| Ok(Some(name)))?;
    let name = name.ok_or("it has no name, such as {id}.apps.example.org")?;
    let (name, port) = template(&name)?;
    let own = fields.port()?;
    let dns = fields.dns(world)?;
    let records = fields.text("records")?.unwrap_or_else(|| "address".to_owned());
    match records.to_ascii_lowercase().as_str() {
        "address" => Ok(Arc::new(DnsApps::hosts(dns, &name, own.or(port).unwrap_or(PEER_PORT)))),
        "srv" => Ok(Arc::new(DnsApps::services(dns, &name))),
        _ => Err(format!("records must be address or srv, not {records:?}")),
    }
}

fn cluster(fields: &mut Fields, world: &Arc<dyn World>) -> Sources {
    let domain = fields.text("clusterDomain")?;
    let domain = domain.as_deref().unwrap_or(CLUSTER_DOMAIN).trim_matches('.').to_owned();
    // With a dot at the end, so that it is the only name asked for: pods have search lists for shorter ones.
    let usual = || format!("{{id}}-dapr.{{namespace}}.svc.{domain}.");
    let name = fields.text("template")?.unwrap_or_else(usual);
    let (name, port) = template(&name)?;
    let own = fields.port()?;
    let dns = fields.dns(world)?;
    Ok(Arc::new(DnsApps::hosts(dns, &name, own.or(port).unwrap_or(PEER_PORT))))
}

/// A name with places for id and namespace, in any of the ways of writing them, and the port behind it, if there is one.
fn template(said: &str) -> Result<(String, Option<u16>), String> {
    let mut name = said.trim().to_owned();
    for (written, meant) in [
        ("{{.ID}}", DnsApps::ID),
        ("{appid}", DnsApps::ID),
        ("{{.Namespace}}", DnsApps::NAMESPACE),
        (":{{.Port}}", ""),
    ] {
        name = name.replace(written, meant);
    }
    let (name, port) = match name.rsplit_once(':') {
        None => (name, None),
        Some((name, port)) => match port.parse() {
            Ok(port) => (name.to_owned(), Some(port)),
            Err(_) => return Err(format!("{said:?} ends in something that is not a port")),
        },
    };
    let rest = name.replace(DnsApps::ID, "").replace(DnsApps::NAMESPACE, "");
    if rest.contains(['{', '}']) {
        return Err(format!("in {said:?} only {{id}} and {{namespace}} stand for something"));
    }
    if !name.contains(DnsApps::ID) {
        return Err(format!("{said:?} is the same for all apps: {{id}} stands for the app's id"));
    }
    Ok((name, port))
}

/// A place in words, for those who ask what a name resolves to.
pub(crate) fn in_words(place: &Place) -> String {
    let mut told = match &place.at {
        At::Address(address) => address.to_string(),
        At::Host(host, port) => format!("{host}:{port}"),
        At::Channel(_) => place.name.to_string(),
    };
    if place.weight != 1 {
        told += &format!(" weight={}", place.weight);
    }
    if let Some(zone) = &place.zone {
        told += &format!(" zone={zone}");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::{Resolution, in_words, template};
    use outrigger_kernel::World;
    use outrigger_resources::{Configuration, NameResolution};
    use std::sync::Arc;

    fn read(component: &str, said: serde_json::Value) -> Result<Resolution, String> {
        let name_resolution = NameResolution {
            component: Some(component.to_owned()),
            version: None,
            configuration: Some(said),
        };
        let configuration = Configuration { name_resolution, ..Configuration::default() };
        let world: Arc<dyn World> = outrigger_sim::SimWorld::new(1);
        Resolution::read(&configuration, &world).map_err(|failure| format!("{failure:?}"))
    }

    async fn places(resolution: &Resolution, app: &str) -> Vec<String> {
        let lookup = resolution.lookup.as_ref().unwrap();
        let found = lookup.look(app, "default").await.unwrap();
        found.places.iter().map(in_words).collect()
    }

    #[tokio::test]
    async fn lists_are_read_in_every_form() {
        let list = read(
            "static",
            serde_json::json!({"apps": {
                "cart": "10.0.0.1:1, 10.0.0.2:2 weight=3 zone=b",
                "shop": ["[::1]:9"],
            }, "zone": "a"}),
        );
        let list = list.unwrap();
        assert_eq!(places(&list, "cart").await, ["10.0.0.1:1", "10.0.0.2:2 weight=3 zone=b"]);
        assert_eq!(places(&list, "shop").await, ["[::1]:9"]);
        assert!(places(&list, "other").await.is_empty());

        let text = r#"{"appInstances": {"cart": [
            {"domain": "", "ipv4": "10.0.0.1", "ipv6": "", "port": 4433, "extendedInfo": {"zone": "b", "weight": "2"}},
            {"ipv6": "::1", "port": 4434}]}}"#;
        let structured = read(
            "structuredformat",
            serde_json::json!({"structuredType": "json", "stringValue": text}),
        );
        let meant = ["10.0.0.1:4433 weight=2 zone=b", "[::1]:4434"];
        assert_eq!(places(&structured.unwrap(), "cart").await, meant);

        let folder = crate::testing::folder();
        let file = folder.path().join("apps.yaml");
        std::fs::write(&file, "appInstances:\n  cart:\n  - {ipv4: 10.0.0.1, port: 1}\n").unwrap();
        let said = serde_json::json!({"structuredType": "yamlFile", "filePath": file});
        let in_file = read("structuredformat", said).unwrap();
        assert_eq!(places(&in_file, "cart").await, ["10.0.0.1:1"]);
        std::fs::write(&file, "appInstances:\n  cart:\n  - {ipv4: 10.0.0.1, port: 2}\n").unwrap();
        assert_eq!(places(&in_file, "cart").await, ["10.0.0.1:2"], "it may change");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        let json = |text: &str| serde_json::from_str(text).unwrap();
        for (component, said, reason) in [
            ("static", "{}", "it has no apps"),
            ("static", r#"{"apps": {"cart": "10.0.0.1"}}"#, "apps.cart"),
            ("structuredformat", r#"{"structuredType": "xml"}"#, "structuredType must be"),
            ("structuredformat", r#"{"structuredType": "json", "stringValue": "["}"#, "at 1:"),
            (
                "structuredformat",
                r#"{"structuredType": "json", "stringValue": "{}"}"#,
                "appInstances",
            ),
            ("structuredformat", r#"{"structuredType": "jsonFile", "filePath": "/none"}"#, "/none"),
            ("dns", "{}", "it has no name"),
            ("dns", r#"{"name": "apps.example"}"#, "{id}"),
            ("dns", r#"{"name": "{id}.x", "servers": ["x"]}"#, "DNS server"),
            ("dns", r#"{"name": "{id}.x", "records": "mx"}"#, "address or srv"),
            ("kubernetes", r#"{"port": 0}"#, "port"),
            ("kubernetes", r#"{"template": "{{.ID}}-{{.Data.region}}"}"#, "only {id}"),
            ("consul", "{}", "there is no consul here"),
            ("static", "[]", "must be a mapping"),
        ] {
            let refused = read(component, json(said)).err().unwrap();
            assert!(refused.contains("OUTR-0032") && refused.contains(reason), "{refused}");
        }
        let told = read("mdns", json("{}")).unwrap();
        assert!(told.lookup.is_none() && told.notices[0].contains("this machine"));
        let told = read("kubernetes", json(r#"{"nonsense": 1}"#)).unwrap();
        assert!(told.lookup.is_some() && told.notices[0].contains("nonsense"));
    }

    #[test]
    fn templates_of_all_kinds() {
        let name = |text: &str| template(text).unwrap();
        assert_eq!(name("{{.ID}}-x.{{.Namespace}}.svc:{{.Port}}").0, "{id}-x.{namespace}.svc");
        assert_eq!(name("{appid}.example:70"), ("{id}.example".to_owned(), Some(70)));
        for bad in ["x", "{id}:http", "{id}.{zone}"] {
            assert!(template(bad).is_err(), "{bad}");
        }
    }
}
