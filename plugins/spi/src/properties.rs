//! Reads the properties of an instance or a flavor into a type: names in any case, as Docker's InfraKit took
//! them, every problem with the path of its field, and nothing that is unknown is dropped.
//!
//! The known names come from the type itself: its reader tells them to the deserializer that it reads from.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use model::Opaque;
use model::draft::nearest;
use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Error, Value};

/// The properties as a value, or everything that is wrong with them in one error; `whose` names the plugin.
///
/// ```
/// #[derive(serde::Deserialize)]
/// #[serde(rename_all = "PascalCase")]
/// struct Properties {
///     size: u32,
/// }
/// let properties = model::Opaque::from_json(r#"{"size": "3", "Colour": "red"}"#);
/// let error = spi::properties::read_opaque::<Properties>("boxes", &properties).err().unwrap();
/// assert_eq!(
///     error.message,
///     "boxes: Colour: unknown field `Colour`; no field has a name like it; \
///      size: invalid type: string \"3\", expected u32"
/// );
/// ```
pub fn read_opaque<T: DeserializeOwned>(whose: &str, properties: &Opaque) -> Result<T, crate::Error> {
    let refused = |why: String| crate::Error::invalid(format!("{whose}: {why}"));
    let value = serde_json::from_str(properties.as_json()).map_err(|error| refused(error.to_string()))?;
    read(value, &|_, _| None).map_err(|problems| refused(problems.join("; ")))
}

/// The value, or everything that is wrong with it. `elsewhere` tells where a field belongs that is unknown at
/// a path.
pub fn read<T: DeserializeOwned>(
    value: Value,
    elsewhere: &dyn Fn(&str, &str) -> Option<String>,
) -> Result<T, Vec<String>> {
    let notes = Notes { problems: RefCell::default(), told: Cell::new(false), elsewhere };
    let read = T::deserialize(Strict { value, path: String::new(), notes: &notes });
    let read = read.map_err(|error| notes.failed("", error));
    let problems = notes.problems.into_inner();
    match read {
        Ok(read) if problems.is_empty() => Ok(read),
        Ok(_) | Err(_) => Err(problems),
    }
}

/// The names of the fields of a struct.
pub fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let found = Cell::new(&[] as &[&str]);
    // It fails once it has told its fields.
    let _ = T::deserialize(Probe(&found));
    found.get()
}

/// What a reader meets.
struct Notes<'a> {
    problems: RefCell<Vec<String>>,
    /// Whether the error that ends the reading is among them.
    told: Cell<bool>,
    elsewhere: &'a dyn Fn(&str, &str) -> Option<String>,
}

impl Notes<'_> {
    /// Notes an error where it arises; on its way up it passes here again.
    fn failed(&self, path: &str, error: Error) -> Error {
        if !self.told.replace(true) {
            let at = if path.is_empty() { String::new() } else { format!("{path}: ") };
            self.problems.borrow_mut().push(format!("{at}{error}"));
        }
        error
    }

    fn unknown(&self, path: &str, field: &str, known: &[&str]) {
        let remedy = match ((self.elsewhere)(path, field), nearest(field, known)) {
            (Some(place), _) => place,
            (None, Some(name)) => format!("did you mean `{name}`?"),
            (None, None) => "no field has a name like it".to_owned(),
        };
        let problem = format!("{}: unknown field `{field}`; {remedy}", join(path, field));
        self.problems.borrow_mut().push(problem);
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

struct Strict<'a> {
    value: Value,
    path: String,
    notes: &'a Notes<'a>,
}

impl<'de> Deserializer<'de> for Strict<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => {
                let entries = map.into_iter().map(|(key, value)| (key.clone(), key, value));
                let entries = entries.collect::<Vec<_>>().into_iter();
                visitor.visit_map(Entries { entries, next: None, path: self.path, notes: self.notes })
            }
            Value::Array(list) => visitor.visit_seq(Elements {
                list: list.into_iter(),
                at: 0,
                path: self.path,
                notes: self.notes,
            }),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Value::Object(map) = &mut self.value {
            // The type sees the names that it knows; a path shows what is written.
            let mut written: BTreeMap<&'static str, String> = BTreeMap::new();
            for key in map.keys() {
                let exact = fields.iter().find(|field| **field == key);
                let Some(field) = exact.or_else(|| fields.iter().find(|it| it.eq_ignore_ascii_case(key)))
                else {
                    self.notes.unknown(&self.path, key, fields);
                    continue;
                };
                if let Some(other) = written.insert(field, key.clone()) {
                    let problem = format!("{}: `{other}` and `{key}` are one field", join(&self.path, field));
                    self.notes.problems.borrow_mut().push(problem);
                }
            }
            let entries: Vec<Entry> = written
                .into_iter()
                .filter_map(|(field, key)| map.remove(&key).map(|value| (field.to_owned(), key, value)))
                .collect();
            let entries = entries.into_iter();
            return visitor.visit_map(Entries { entries, next: None, path: self.path, notes: self.notes });
        }
        // A list in place of a struct would be read field by field.
        if self.value.is_array() {
            return Err(Error::custom("invalid type: a list, expected a map"));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// A name, as it is written, and its value.
type Entry = (String, String, Value);

struct Entries<'a> {
    entries: std::vec::IntoIter<Entry>,
    next: Option<Entry>,
    path: String,
    notes: &'a Notes<'a>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.entries.next();
        let Some((key, _, _)) = &self.next else { return Ok(None) };
        let key: StringDeserializer<Error> = key.clone().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (_, key, value) = self.next.take().expect("a value is asked for after its key");
        let path = join(&self.path, &key);
        seed.deserialize(Strict { value, path: path.clone(), notes: self.notes })
            .map_err(|error| self.notes.failed(&path, error))
    }
}

struct Elements<'a> {
    list: std::vec::IntoIter<Value>,
    at: usize,
    path: String,
    notes: &'a Notes<'a>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.list.next() else { return Ok(None) };
        let path = format!("{}[{}]", self.path, self.at);
        self.at += 1;
        seed.deserialize(Strict { value, path: path.clone(), notes: self.notes })
            .map(Some)
            .map_err(|error| self.notes.failed(&path, error))
    }
}

/// Asks a type for its fields and gives it nothing.
struct Probe<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("nothing to read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.set(fields);
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any option newtype_struct enum
    }
}
