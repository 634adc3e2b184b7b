//! Secrets: one, or all that the app may read.

use super::Stage;
use crate::{
    components::SecretComponent,
    errors::{Fault, catalogue},
    host::Host,
    secrets::{Secret, SecretError},
    trace::Started,
};
use std::{collections::BTreeMap, sync::Arc};

fn find(host: &Host, name: &str) -> Result<Arc<SecretComponent>, Fault> {
    let components = host.components.load();
    if let Some(component) = components.secrets.get(name) {
        return Ok(Arc::clone(component));
    }
    Err(if components.secrets.is_empty() {
        let message = "secret store is not configured: no secret store is";
        Fault::new(&catalogue::SECRET_STORES_NOT_CONFIGURED, message)
    } else {
        let message = format!("could not find secret store {name}");
        Fault::new(&catalogue::SECRET_STORE_NOT_FOUND, message)
    })
}

/// The secret called `name`, if the app may read it.
pub(crate) async fn get(host: &Host, store: &str, name: &str) -> Result<Secret, Fault> {
    let component = find(host, store)?;
    if !host.configuration.load().secret_allowed(store, name) {
        let message = format!("access denied by policy to get {name:?} from {store:?}");
        return Err(Fault::new(&catalogue::SECRET_DENIED, message));
    }
    let started = Started::now(&*host.world);
    let answer = component.store.get(name).await;
    let stage = Stage { component: &component.name, operation: "get" };
    host.metrics.secret(&stage, started, &*host.world, answer.is_ok());
    answer.map_err(|error| {
        let message = match error {
            SecretError::NotFound(_) => {
                format!("could not get secret {name} from secret store {store}: {error}")
            }
            SecretError::Unreadable(reason) => {
                format!("could not get secret {name} from secret store {store}: {reason}")
            }
        };
        Fault::new(&catalogue::SECRET_GET, message)
    })
}

/// Every secret that the app may read.
pub(crate) async fn bulk(host: &Host, store: &str) -> Result<BTreeMap<String, Secret>, Fault> {
    let component = find(host, store)?;
    let started = Started::now(&*host.world);
    let answer = component.store.bulk().await;
    let stage = Stage { component: &component.name, operation: "bulk_get" };
    host.metrics.secret(&stage, started, &*host.world, answer.is_ok());
    let mut all = answer.map_err(|error| {
        let message = format!("could not get secrets from secret store {store}: {error}");
        Fault::new(&catalogue::SECRET_GET, message)
    })?;
    let configuration = host.configuration.load();
    all.retain(|name, _| configuration.secret_allowed(store, name));
    Ok(all)
}
