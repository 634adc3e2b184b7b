//! From parser events to trees, one per document.
//!
//! A document that cannot be read is reported and skipped: the parser resumes at the next document marker. Depth and
//! size are checked while the tree grows, aliases by the size of what they repeat, so a file that would unfold into
//! gigabytes is refused after a few kilobytes.

use super::{DEPTH_MAX, DOCUMENTS_MAX, Entry, Node, Place, Scalar, VALUES_MAX, Value};
use crate::codes::{self, Code};
use serde_saphyr::granit_parser::{self as parser, Event, ScalarStyle, Span};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Something wrong with the text itself.
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) code: &'static Code,
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// One document: its tree, or none when it is empty or could not be read, and what was wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) root: Option<Arc<Node>>,
    pub(crate) complaints: Vec<Complaint>,
}

/// Replaces references in a scalar's text; gets the text and its place.
pub(crate) type Expand<'a> = dyn FnMut(&str, Place) -> Option<String> + 'a;

/// All documents of a file. `expand` sees every scalar that is not a key.
pub(crate) fn documents(source: &str, expand: &mut Expand<'_>) -> Vec<Document> {
    // Our own depth limit speaks in our own words, so the parser's must lie above it.
    let options = parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH_MAX + 8,
        block_nesting_limit: DEPTH_MAX + 8,
    };
    let mut events = parser::Parser::new_from_str_with_options(source, options);
    let mut documents = Vec::new();
    let mut growing: Option<Growing> = None;
    loop {
        let failure = match events.next_event() {
            None => break,
            Some(Ok((Event::DocumentStart(..), span))) => {
                if documents.len() >= DOCUMENTS_MAX {
                    documents.push(too_many(place(span.start.line(), span.start.col())));
                    break;
                }
                growing = Some(Growing::default());
                continue;
            }
            Some(Ok((Event::DocumentEnd, _))) => {
                documents.extend(growing.take().map(|done| done.document));
                continue;
            }
            Some(Ok((event, span))) => match growing.as_mut() {
                Some(tree) => tree.feed(event, span, expand),
                None => Ok(()),
            },
            Some(Err(error)) => Err(syntax(&error)),
        };
        if let Err(complaint) = failure {
            let mut document = growing.take().unwrap_or_default().document;
            document.root = None;
            document.complaints.push(complaint);
            documents.push(document);
            if !events.proceed_next_document().unwrap_or(false) {
                break;
            }
        }
    }
    documents
}

fn too_many(place: Place) -> Document {
    let message = format!("the file holds more than {DOCUMENTS_MAX} documents");
    let complaint = Complaint { code: codes::TOO_COMPLEX, place, message };
    Document { root: None, complaints: vec![complaint] }
}

fn syntax(error: &parser::ScanError) -> Complaint {
    let mark = error.marker();
    let place = place(mark.line(), mark.col());
    let code = match error.kind() {
        parser::ErrorKind::RecursionLimitExceeded => codes::TOO_COMPLEX,
        _ => codes::SYNTAX,
    };
    Complaint { code, place, message: error.info().to_owned() }
}

fn place(line: usize, column: usize) -> Place {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: small(line), column: small(column.saturating_add(1)) }
}

/// A tree being built.
#[derive(Default)]
struct Growing {
    document: Document,
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    values: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    /// The keys of `entries`, so that a map of many keys does not take quadratic time.
    names: HashSet<String>,
    /// The key whose value comes next.
    key: Option<(String, Place)>,
    merges: Vec<Arc<Node>>,
}

impl Growing {
    fn feed(
        &mut self,
        event: Event<'_>,
        span: Span,
        expand: &mut Expand<'_>,
    ) -> Result<(), Complaint> {
        let at = place(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = self.tagged(tag.as_deref(), at);
                let plain = style == ScalarStyle::Plain && tag.as_deref() != Some("str");
                self.scalar(text, plain, anchor, at, expand)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tagged(tag.as_deref(), at);
                self.open(Open { place: at, anchor, content: Content::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tagged(tag.as_deref(), at);
                self.open(Open { place: at, anchor, content: Content::Map(OpenMap::default()) })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                let node = node.ok_or_else(|| Complaint {
                    code: codes::KEY_NOT_TEXT,
                    place: at,
                    message: "the alias stands inside the value it refers to".into(),
                })?;
                self.count(node.size, at)?;
                self.check_depth(node.height, at)?;
                self.add(node, at)
            }
            _ => Ok(()),
        }
    }

    /// The core name of a tag; others are complained about and ignored.
    fn tagged(&mut self, tag: Option<&parser::Tag>, at: Place) -> Option<String> {
        let tag = tag?;
        if let Some(core) = tag.core_suffix() {
            return Some(core.to_owned());
        }
        // A lone `!` says "not typed": a text.
        if tag.suffix().is_empty() {
            return Some("str".into());
        }
        self.document.complaints.push(Complaint {
            code: codes::TAG_IGNORED,
            place: at,
            message: format!("the tag {} is ignored", tag.original()),
        });
        None
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        plain: bool,
        anchor: usize,
        at: Place,
        expand: &mut Expand<'_>,
    ) -> Result<(), Complaint> {
        self.count(1, at)?;
        if let Some(Open { content: Content::Map(OpenMap { key: key @ None, .. }), .. }) =
            self.open.last_mut()
        {
            // Anchors on keys are rare, but an alias may repeat the key's text elsewhere.
            *key = Some((text.clone().into_owned(), at));
            let node = Node::new(Value::Scalar(Scalar { text: text.into_owned(), plain }), at);
            self.remember(anchor, &Arc::new(node));
            return Ok(());
        }
        let text = expand(&text, at).unwrap_or_else(|| text.into_owned());
        let node = Arc::new(Node::new(Value::Scalar(Scalar { text, plain }), at));
        self.remember(anchor, &node);
        self.add(node, at)
    }

    fn open(&mut self, open: Open) -> Result<(), Complaint> {
        if let Some(Open { content: Content::Map(OpenMap { key: None, .. }), .. }) =
            self.open.last()
        {
            return Err(key_not_text(open.place));
        }
        self.count(1, open.place)?;
        self.check_depth(1, open.place)?;
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Complaint> {
        let Some(Open { place, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map(mut map) => {
                for merged in std::mem::take(&mut map.merges) {
                    self.merge(&mut map, &merged)?;
                }
                Value::Map(map.entries)
            }
        };
        let node = Arc::new(Node::new(value, place));
        self.remember(anchor, &node);
        self.add(node, place)
    }

    /// Puts a finished value where it belongs: into the open list or map, or at the root.
    fn add(&mut self, node: Arc<Node>, at: Place) -> Result<(), Complaint> {
        let Some(open) = self.open.last_mut() else {
            self.document.root = (!node.is_null()).then_some(node);
            return Ok(());
        };
        let map = match &mut open.content {
            Content::List(items) => {
                items.push(node);
                return Ok(());
            }
            Content::Map(map) => map,
        };
        let Some((name, key_place)) = map.key.take() else {
            // An alias in the place of a key.
            let Value::Scalar(scalar) = &node.value else { return Err(key_not_text(at)) };
            map.key = Some((scalar.text.clone(), at));
            return Ok(());
        };
        if name == "<<" {
            map.merges.push(node);
        } else if !map.names.insert(name.clone()) {
            let message = format!("the key \"{name}\" is given twice");
            let code = codes::DUPLICATE_KEY;
            self.document.complaints.push(Complaint { code, place: key_place, message });
        } else {
            map.entries.push(Entry { key: name, key_place, node });
        }
        Ok(())
    }

    /// YAML 1.1's `<<`: the entries of a map, or of each map of a list, unless the key is there already.
    fn merge(&mut self, into: &mut OpenMap, from: &Arc<Node>) -> Result<(), Complaint> {
        match &from.value {
            Value::Map(merged) => {
                for entry in merged {
                    if into.names.insert(entry.key.clone()) {
                        self.count(entry.node.size, from.place)?;
                        into.entries.push(entry.clone());
                    }
                }
                Ok(())
            }
            Value::List(maps) if maps.iter().all(|m| matches!(m.value, Value::Map(_))) => {
                maps.iter().try_for_each(|map| self.merge(into, map))
            }
            _ => Err(Complaint {
                code: codes::WRONG_TYPE,
                place: from.place,
                message: format!("<< needs a mapping, not {}", from.describe()),
            }),
        }
    }

    fn remember(&mut self, anchor: usize, node: &Arc<Node>) {
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(node));
        }
    }

    fn count(&mut self, more: usize, at: Place) -> Result<(), Complaint> {
        self.values = self.values.saturating_add(more);
        if self.values > VALUES_MAX {
            let message = format!("the document unfolds into more than {VALUES_MAX} values");
            return Err(Complaint { code: codes::TOO_COMPLEX, place: at, message });
        }
        Ok(())
    }

    fn check_depth(&self, more: usize, at: Place) -> Result<(), Complaint> {
        if self.open.len() + more > DEPTH_MAX {
            let message = format!("the document nests more than {DEPTH_MAX} levels deep");
            return Err(Complaint { code: codes::TOO_COMPLEX, place: at, message });
        }
        Ok(())
    }
}

fn key_not_text(place: Place) -> Complaint {
    let message = "a key must be text".into();
    Complaint { code: codes::KEY_NOT_TEXT, place, message }
}
