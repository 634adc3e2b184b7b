//! Whose key it is: the prefix under which a user's key is stored.
//!
//! Apps that share a store are kept apart (or, if wanted, brought together) by what is put before their keys:
//! `prefix || key`. A user's key must not contain the separator, so no app can spell its way into another one's keys.

use crate::IllegalKey;

/// What stands between prefix and key.
pub const KEY_SEPARATOR: &str = "||";

/// Which prefix a store puts before users' keys.
///
/// ```
/// use outrigger_state::KeyPrefix;
///
/// let prefix = KeyPrefix::parse(None)?;
/// let physical = prefix.physical("shop", "prod", "statestore", "order-1")?;
/// assert_eq!(physical, "shop||order-1");
/// assert_eq!(prefix.strip("shop", "prod", "statestore", &physical), Some("order-1"));
/// assert!(prefix.physical("shop", "prod", "statestore", "till||order-1").is_err());
/// # Ok::<(), outrigger_state::IllegalKey>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyPrefix {
    /// The app's id: each app has its own keys.
    #[default]
    AppId,
    /// The store component's name: all apps that use it share its keys.
    Name,
    /// None: all apps share all keys.
    None,
    /// Namespace and app id as `namespace.app`; just the app id where there is no namespace.
    Namespace,
    /// Always this.
    Literal(String),
}

impl KeyPrefix {
    /// Reads a component's setting: `appid`, `name`, `none`, `namespace`, anything else as a literal; nothing or an
    /// empty string is the default. Case does not matter, and literals are lower-cased, as the wire contract has it.
    ///
    /// # Errors
    /// When a literal contains [`KEY_SEPARATOR`].
    pub fn parse(setting: Option<&str>) -> Result<Self, IllegalKey> {
        let setting = setting.unwrap_or_default().to_lowercase();
        if setting.contains(KEY_SEPARATOR) {
            return Err(IllegalKey::Separator { key: setting });
        }
        Ok(match setting.as_str() {
            "" | "appid" => Self::AppId,
            "name" => Self::Name,
            "none" => Self::None,
            "namespace" => Self::Namespace,
            _ => Self::Literal(setting),
        })
    }

    /// What all physical keys of this app in this component begin with; empty for none.
    #[must_use]
    pub fn start(&self, app_id: &str, namespace: &str, component: &str) -> String {
        let mut out = String::new();
        self.write_start(&mut out, app_id, namespace, component);
        out
    }

    /// The key as stored.
    ///
    /// # Errors
    /// When `key` is empty or contains [`KEY_SEPARATOR`].
    pub fn physical(
        &self,
        app_id: &str,
        namespace: &str,
        component: &str,
        key: &str,
    ) -> Result<String, IllegalKey> {
        if key.is_empty() {
            return Err(IllegalKey::Empty);
        }
        if key.contains(KEY_SEPARATOR) {
            return Err(IllegalKey::Separator { key: key.to_owned() });
        }
        let room = app_id.len() + namespace.len() + component.len() + key.len() + 3;
        let mut out = String::with_capacity(room);
        self.write_start(&mut out, app_id, namespace, component);
        out.push_str(key);
        Ok(out)
    }

    /// The user's key inside a stored one; `None` when it belongs to somebody else.
    #[must_use]
    pub fn strip<'a>(
        &self,
        app_id: &str,
        namespace: &str,
        component: &str,
        physical: &'a str,
    ) -> Option<&'a str> {
        let key = physical.strip_prefix(self.start(app_id, namespace, component).as_str())?;
        (!key.is_empty() && !key.contains(KEY_SEPARATOR)).then_some(key)
    }

    fn write_start(&self, out: &mut String, app_id: &str, namespace: &str, component: &str) {
        match self {
            Self::None => return,
            // Without an app there is nobody to keep apart.
            Self::AppId | Self::Namespace if app_id.is_empty() => return,
            Self::AppId => out.push_str(app_id),
            Self::Name => out.push_str(component),
            Self::Namespace => {
                if !namespace.is_empty() {
                    out.push_str(namespace);
                    out.push('.');
                }
                out.push_str(app_id);
            }
            Self::Literal(literal) => out.push_str(literal),
        }
        out.push_str(KEY_SEPARATOR);
    }
}

#[cfg(test)]
mod tests {
    use super::{KEY_SEPARATOR, KeyPrefix};
    use crate::IllegalKey;
    use proptest::prelude::*;

    #[test]
    fn strategies() {
        let cases = [
            (None, "shop||k"),
            (Some(""), "shop||k"),
            (Some("AppID"), "shop||k"),
            (Some("name"), "store||k"),
            (Some("none"), "k"),
            (Some("namespace"), "prod.shop||k"),
            (Some("Shared"), "shared||k"),
        ];
        for (setting, expected) in cases {
            let prefix = KeyPrefix::parse(setting).unwrap();
            assert_eq!(prefix.physical("shop", "prod", "store", "k").unwrap(), expected);
        }
        assert_eq!(KeyPrefix::Namespace.physical("shop", "", "store", "k").unwrap(), "shop||k");
        assert_eq!(KeyPrefix::AppId.physical("", "", "store", "k").unwrap(), "k");
    }

    #[test]
    fn refusals() {
        let separator = KeyPrefix::parse(Some("a||b"));
        assert!(matches!(separator, Err(IllegalKey::Separator { key }) if key == "a||b"));
        let empty = KeyPrefix::AppId.physical("shop", "", "store", "");
        assert_eq!(empty, Err(IllegalKey::Empty));
        let key = KeyPrefix::None.physical("shop", "", "store", "x||y");
        assert!(matches!(key, Err(IllegalKey::Separator { .. })));
    }

    #[test]
    fn strip_refuses_what_is_not_ours() {
        let strip = |physical| KeyPrefix::AppId.strip("shop", "", "store", physical);
        assert_eq!(strip("shop||k"), Some("k"));
        assert_eq!(strip("shop2||k"), None);
        assert_eq!(strip("shop||a||b"), None);
        assert_eq!(strip("shop||"), None);
        assert_eq!(strip("k"), None);
    }

    proptest! {
        #[test]
        fn strip_undoes_physical(setting in "appid|name|none|namespace|x[a-z]{0,3}", key in "[a-z|\\PC]{1,6}") {
            let prefix = KeyPrefix::parse(Some(&setting)).unwrap();
            match prefix.physical("app", "ns", "comp", &key) {
                Ok(physical) => prop_assert_eq!(prefix.strip("app", "ns", "comp", &physical), Some(key.as_str())),
                Err(_) => prop_assert!(key.contains(KEY_SEPARATOR)),
            }
        }
    }
}
