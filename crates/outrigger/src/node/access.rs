//! Who may call an app: the configuration's access control as the list that the app's channel checks.

use outrigger_calls::{AccessList, Caller, access};
use outrigger_resources::{AccessControl, Action};
use std::sync::Arc;

/// The list of `control`; `None` when it restricts nobody.
pub(super) fn list(control: &AccessControl) -> Option<Arc<AccessList>> {
    if control.default_action.is_none() && control.policies.as_ref().is_none_or(Vec::is_empty) {
        return None;
    }
    let policies = control.policies.iter().flatten().map(|policy| access::CallerPolicy {
        caller: Caller {
            app_id: policy.app_id.clone(),
            namespace: policy.namespace.clone(),
            trust_domain: policy.trust_domain.clone(),
        },
        default: policy.default_action.map(action),
        operations: policy
            .operations
            .iter()
            .map(|operation| access::Operation {
                name: operation.name.clone(),
                verbs: operation.verbs.clone(),
                action: action(operation.action),
            })
            .collect(),
    });
    Some(Arc::new(AccessList::new(control.default_action.map(action), policies.collect())))
}

fn action(action: Action) -> access::Action {
    match action {
        Action::Allow => access::Action::Allow,
        Action::Deny => access::Action::Deny,
    }
}

#[cfg(test)]
mod tests {
    use super::list;
    use outrigger_resources::{AccessControl, Action};

    #[test]
    fn nothing_said_restricts_nobody() {
        assert!(list(&AccessControl::default()).is_none());
        let deny = AccessControl { default_action: Some(Action::Deny), ..AccessControl::default() };
        assert!(list(&deny).is_some());
    }
}
