//! Every code that reading files can report, with its cause and its remedy.
//!
//! Codes are a promise: people search for them and scripts compare them. One is never reused for another meaning; one
//! that is no longer reported keeps its line. The table below is the only source: `explain`, the reference page and the
//! remedies printed with an issue all come from it.

/// One code, as `outrigger explain` and the reference page show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `OUTR-nnnn`.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// How one gets here.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// All of it as a Markdown page.
    pub page: &'static str,
}

/// The code called `id`, in any case.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|code| code.id.eq_ignore_ascii_case(id))
}

/// The Markdown page of the code called `id`, in any case.
#[must_use]
pub fn explain(id: &str) -> Option<&'static str> {
    find(id).map(|code| code.page)
}

macro_rules! codes {
    ($($name:ident $id:literal $title:literal $cause:literal $remedy:literal)*) => {
        $(pub(crate) const $name: &Code = &Code {
            id: $id,
            title: $title,
            cause: $cause,
            remedy: $remedy,
            page: concat!(
                "# ", $id, ": ", $title, "\n\n", $cause, "\n\n## What to do\n\n", $remedy, "\n"
            ),
        };)*

        /// All codes of this crate, in order.
        pub const ALL: &[&Code] = &[$($name),*];

        /// Their ids, in order.
        pub const CODES: &[&str] = &[$($id),*];
    };
}

codes! {
    FILE_UNREADABLE "OUTR-0101" "File cannot be read"
        "A path given for resources, configuration or a run file does not exist, or may not be read."
        "Check the path, and that this user may read it."
    FILE_TOO_LARGE "OUTR-0102" "File is too large"
        "A file is larger than 1 MiB, or a folder holds more than 4096 resource files."
        "Split it; resource files are small, so this may be the wrong file."
    NOT_UTF8 "OUTR-0103" "File is not UTF-8 text"
        "A resource file holds bytes that are not UTF-8."
        "Save the file as UTF-8."
    SYNTAX "OUTR-0104" "YAML syntax error"
        "A document is not well-formed YAML or JSON. The other documents of the file are read all the same."
        "Mend the place shown; often it is the indentation, a tab, or a missing quote on the line before."
    TOO_COMPLEX "OUTR-0105" "Document is too deep or too big"
        "A document nests more than 48 levels deep, or has more than 100000 values once its aliases are expanded, or a file holds more than 10000 documents."
        "Split the document, or write out the aliases that multiply each other."
    DUPLICATE_KEY "OUTR-0106" "Key given twice"
        "A mapping has the same key twice, so one of the two values would be lost."
        "Remove one of the two."
    KEY_NOT_TEXT "OUTR-0107" "Key is not text"
        "A mapping has a list or another mapping as its key, or an alias stands inside the value it refers to."
        "Use plain text as keys, and let no alias refer to what it is part of."
    NOT_A_RESOURCE "OUTR-0108" "Not a resource"
        "A document is not a mapping with `apiVersion` and `kind`."
        "Add `apiVersion: dapr.io/v1alpha1` and a `kind`, or move the file out of the resources folder."
    UNKNOWN_KIND "OUTR-0109" "Unknown kind"
        "A document has a `kind` that does not exist in its API."
        "Use Component, Configuration, Subscription, Resiliency or HTTPEndpoint."
    UNKNOWN_VERSION "OUTR-0110" "Unknown version of a kind"
        "A document has an `apiVersion` in which its kind does not exist, so it was left out."
        "Use dapr.io/v1alpha1; subscriptions exist in dapr.io/v2alpha1 too."
    FOREIGN "OUTR-0111" "Document of another system"
        "A document belongs to another API (for example to Kubernetes) and was left out."
        "Nothing, if it stands there on purpose."
    NOT_SERVED "OUTR-0112" "Kind is known but not served"
        "A document is of a kind that this version keeps but does nothing with."
        "Remove it, or expect it to have no effect."
    UNKNOWN_FIELD "OUTR-0113" "Unknown field"
        "A field has a name that its kind does not know, so it has no effect."
        "Correct the name, or remove the field."
    WRONG_TYPE "OUTR-0114" "Wrong type of value"
        "A field holds a list where a text is needed, a text where a number is needed, or the like."
        "Write a value of the type that the message names."
    MISSING_FIELD "OUTR-0115" "Required field is missing"
        "A field without which the document means nothing is absent or empty."
        "Add the field."
    BAD_VALUE "OUTR-0116" "Value is not possible here"
        "A field holds a value outside the range or the list of values that it can have."
        "Use one of the values that the message names."
    BAD_DURATION "OUTR-0117" "Not a duration"
        "A field that holds a duration holds something else."
        "Write a number and a unit, such as 500ms, 5s or 1h30m, or the ISO form, such as PT5S."
    BAD_NAME "OUTR-0118" "Name is not possible"
        "A name contains `/` or `%`, or is `.` or `..`: it could not stand in a URL."
        "Use letters, digits, dots and dashes."
    DUPLICATE_COMPONENT "OUTR-0119" "Two components of one name"
        "Two components have the same name and namespace. The one read first is used."
        "Rename one of them, or remove it."
    UNKNOWN_BLOCK "OUTR-0120" "Component type names no known block"
        "The first part of a component's `spec.type` is not one of state, pubsub, bindings, secretstores, configuration, lock, crypto, conversation, middleware, nameresolution, workflow."
        "Correct the type."
    UNKNOWN_TYPE "OUTR-0121" "Component type is very like a known one"
        "A component's `spec.type` is not known, but one letter or two away from one that is."
        "Correct the type, unless it is a component of your own."
    DUPLICATE_ENTRY "OUTR-0122" "Metadata entry given twice"
        "A component or an endpoint has two entries of one name. The last one counts."
        "Remove one of the two."
    VALUE_SOURCE "OUTR-0123" "No value, or more than one"
        "An entry has none, or more than one, of `value`, `secretKeyRef` and `envRef`. With several, `value` goes before `envRef`, and `secretKeyRef` before both."
        "Give exactly one of the three."
    NO_SECRET_STORE "OUTR-0124" "Secret reference without a secret store"
        "An entry refers to a secret, but the document does not say in which store it is."
        "Add `auth: { secretStore: NAME }` at the top level of the document."
    SECRET_UNREADABLE "OUTR-0125" "Secret cannot be read"
        "A secret store did not give the secret that an entry refers to."
        "Check the secret's name and key, and that the store is loaded and allowed for this app."
    ENV_REFUSED "OUTR-0126" "Environment variable may not be used"
        "An `envRef` names a variable that holds this process's own secrets (`DAPR_*`, `APP_API_TOKEN`), or no possible variable."
        "Use a variable of another name."
    ENV_NOT_SET "OUTR-0127" "Environment variable is not set"
        "A file refers to an environment variable that this process does not have."
        "Set the variable before starting, or write the value."
    TEMPLATE "OUTR-0128" "Template cannot be filled"
        "A setting contains `{podName}`, but this process does not know its pod's name."
        "Set POD_NAME, or use {uuid} or {appID} instead."
    BAD_SETTING "OUTR-0129" "Component setting is malformed"
        "A component's metadata entry does not hold what its name promises."
        "Write a value of the form that the message names."
    MISSING_SETTING "OUTR-0130" "Component setting is missing"
        "A component lacks a metadata entry without which it cannot work."
        "Add the entry."
    BAD_TOPIC_SCOPES "OUTR-0131" "Topic scopes are malformed"
        "`publishingScopes` or `subscriptionScopes` is not of the form `app1=topic1,topic2;app2=topic3`, or names an app twice."
        "Give each app once, an equals sign, and its topics with commas between them; apps are separated by semicolons."
    ACTOR_STORES "OUTR-0132" "More than one actor state store"
        "Several state stores say `actorStateStore: \"true\"`, but actors and workflows can live in one only."
        "Leave the entry on one of them."
    BAD_STATUS_LIST "OUTR-0133" "Status codes are malformed"
        "A list of status codes is not made of numbers and ranges, or leaves the range of its protocol."
        "Write something like 429,500-599 (HTTP, 100 to 599) or 4,14 (gRPC, 0 to 16)."
    UNDEFINED_POLICY "OUTR-0134" "Policy is not defined"
        "A target names a policy that no loaded Resiliency document defines, so nothing protects it."
        "Define the policy, or correct its name."
    NO_EFFECT "OUTR-0135" "Has no effect"
        "A field is understood, but does nothing here."
        "Remove it."
    DUPLICATE_NAME "OUTR-0136" "Name given twice"
        "Two entries of a list, or two documents of a kind, have the same name where names must differ. The first counts."
        "Remove or rename one of them."
    BAD_URL "OUTR-0137" "Not an absolute http or https URL"
        "An HTTPEndpoint's `baseUrl` is not of the form http://host or https://host."
        "Write the whole URL, with its scheme."
    TAG_IGNORED "OUTR-0138" "YAML tag is ignored"
        "A value carries a YAML tag such as `!include` that means nothing here; the value is read without it."
        "Remove the tag."
    NOT_CONFIGURATION "OUTR-0139" "No configuration in the file"
        "A file given as configuration holds no document of kind Configuration, or holds something else besides."
        "Give files of kind Configuration to --config, and resources to --resources-path."
    RUN_FILE_VERSION "OUTR-0140" "Run file without a usable version"
        "A run file's `version` is missing or is not 1."
        "Write `version: 1`."
    NO_APPS "OUTR-0141" "Run file without apps"
        "A run file's `apps` is missing or empty."
        "Add at least one app with `appDirPath` and `command`."
    DUPLICATE_APP "OUTR-0142" "Two apps of one id"
        "Two apps of a run file have the same `appID`."
        "Give each app its own `appID`."
    PORT_CLASH "OUTR-0143" "Port used twice"
        "Two settings of a run file ask for the same port."
        "Give each its own port, or leave ports out to have free ones chosen."
    NO_SUCH_PATH "OUTR-0144" "Path does not exist"
        "A run file names a file or folder that is not there. Paths of an app are relative to its `appDirPath`, and that to the run file."
        "Correct the path, or create it."
}

#[cfg(test)]
mod tests {
    use super::{ALL, explain};

    #[test]
    fn ids_ascend_and_explain_themselves() {
        assert!(ALL.windows(2).all(|pair| pair[0].id < pair[1].id));
        for code in ALL {
            let page = explain(&code.id.to_lowercase()).unwrap();
            assert!(page.contains(code.title) && page.contains(code.remedy));
        }
        assert_eq!(explain("OUTR-9999"), None);
    }
}
