//! Which fields a command or a part of one may have, and of which type. The engine
//! minds some of them; of what it never sees MongoDB's rules are kept here.

use bson::{Bson, RawBsonRef, RawDocument, raw::CStr};

use super::{GENERIC_FIELDS, is_number, validation};
use crate::error::CommandError;

/// What a field may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Anything,
    Boolean,
    /// A boolean or a number.
    Flag,
    Number,
    Long,
    Text,
    Object,
    Array,
}

use Shape::{Anything, Array, Boolean, Flag, Long, Number, Object, Text};

/// A part of a command.
pub(super) struct Part {
    name: &'static str,
    fields: &'static [(&'static str, Shape)],
    /// Fields that may not be missing.
    required: &'static [&'static str],
    /// Whether other fields are told by what runs it.
    is_open: bool,
}

pub(super) const BULK: Part = Part {
    name: "bulkWrite",
    fields: &[
        ("bulkWrite", Anything),
        ("ops", Array),
        ("nsInfo", Array),
        ("ordered", Boolean),
        ("errorsOnly", Boolean),
        ("let", Object),
        ("cursor", Object),
        ("bypassDocumentValidation", Flag),
        ("bypassEmptyTsReplacement", Boolean),
    ],
    required: &[],
    is_open: false,
};
pub(super) const BULK_NAMESPACE: Part = Part {
    name: "bulkWrite.nsInfo",
    fields: &[
        ("ns", Text),
        ("collectionUUID", Anything),
        ("encryptionInformation", Object),
        ("isTimeseriesNamespace", Boolean),
    ],
    required: &["ns"],
    is_open: false,
};
pub(super) const BULK_INSERT: Part = Part {
    name: "insert",
    fields: &[("insert", Number), ("document", Object)],
    required: &["insert", "document"],
    is_open: false,
};
pub(super) const BULK_UPDATE: Part = Part {
    name: "update",
    fields: &[
        ("update", Number),
        ("filter", Object),
        ("updateMods", Anything),
        ("multi", Boolean),
        ("upsert", Boolean),
        ("upsertSupplied", Boolean),
        ("arrayFilters", Array),
        ("hint", Anything),
        ("constants", Object),
        ("collation", Object),
        ("sort", Object),
        ("sampleId", Anything),
    ],
    required: &["update", "filter", "updateMods"],
    is_open: false,
};
pub(super) const BULK_DELETE: Part = Part {
    name: "delete",
    fields: &[
        ("delete", Number),
        ("filter", Object),
        ("multi", Boolean),
        ("hint", Anything),
        ("collation", Object),
        ("sampleId", Anything),
    ],
    required: &["delete", "filter"],
    is_open: false,
};
pub(super) const FIND: Part = Part {
    name: "find",
    fields: &[
        ("allowDiskUse", Boolean),
        ("noCursorTimeout", Flag),
        ("allowPartialResults", Flag),
        ("min", Object),
        ("max", Object),
    ],
    required: &[],
    is_open: true,
};
pub(super) const EXPLAIN: Part = command("explain", &[("explain", Object), ("verbosity", Text)]);
pub(super) const GET_MORE: Part = Part {
    name: "getMore",
    fields: &[
        ("getMore", Long),
        ("collection", Text),
        ("batchSize", Number),
        ("term", Long),
        ("lastKnownCommittedOpTime", Object),
        ("includeQueryStatsMetrics", Boolean),
    ],
    required: &["getMore", "collection"],
    is_open: false,
};
pub(super) const KILL_CURSORS: Part = Part {
    name: "killCursors",
    fields: &[("killCursors", Anything), ("cursors", Array)],
    required: &["cursors"],
    is_open: false,
};

/// A part that is told by its first field, and that has others that all may be missing.
const fn command(name: &'static str, fields: &'static [(&'static str, Shape)]) -> Part {
    Part {
        name,
        fields,
        required: &[],
        is_open: false,
    }
}

/// Of other fields it says nothing.
const fn lenient(name: &'static str, fields: &'static [(&'static str, Shape)]) -> Part {
    Part {
        is_open: true,
        ..command(name, fields)
    }
}

/// Commands that nothing else looks at as a whole. The value that names what they are about is checked where it is
/// used.
const COMMANDS: [Part; 20] = [
    command("ping", &[("ping", Anything)]),
    lenient("whatsmyuri", &[("whatsmyuri", Anything)]),
    lenient(
        "connectionStatus",
        &[("connectionStatus", Anything), ("showPrivileges", Flag)],
    ),
    command("drop", &[("drop", Anything), ("collectionUUID", Anything)]),
    command(
        "dropIndexes",
        &[
            ("dropIndexes", Anything),
            ("index", Anything),
            ("collectionUUID", Anything),
            ("isTimeseriesNamespace", Boolean),
        ],
    ),
    command(
        "renameCollection",
        &[
            ("renameCollection", Text),
            ("to", Text),
            ("dropTarget", Anything),
            ("stayTemp", Flag),
            ("collectionUUID", Anything),
        ],
    ),
    command("dropDatabase", &[("dropDatabase", Number)]),
    command(
        "listCollections",
        &[
            ("listCollections", Anything),
            ("cursor", Object),
            ("filter", Object),
            ("nameOnly", Boolean),
            ("authorizedCollections", Boolean),
        ],
    ),
    command(
        "listIndexes",
        &[
            ("listIndexes", Anything),
            ("cursor", Object),
            ("includeBuildUUIDs", Boolean),
            ("includeIndexBuildInfo", Boolean),
            ("isTimeseriesNamespace", Boolean),
        ],
    ),
    command(
        "listDatabases",
        &[
            ("listDatabases", Anything),
            ("filter", Object),
            ("nameOnly", Flag),
            ("authorizedDatabases", Flag),
        ],
    ),
    command(
        "dbStats",
        &[
            ("dbStats", Anything),
            ("scale", Number),
            ("freeStorage", Flag),
        ],
    ),
    lenient(
        "collStats",
        &[
            ("collStats", Anything),
            ("scale", Number),
            ("freeStorage", Flag),
        ],
    ),
    lenient(
        "validate",
        &[
            ("validate", Anything),
            ("full", Flag),
            ("background", Flag),
            ("metadata", Flag),
            ("repair", Flag),
            ("fixMultikey", Flag),
            ("enforceFastCount", Flag),
            ("checkBSONConformance", Flag),
            ("enforceTimeseriesBucketsAreAlwaysCompressed", Flag),
        ],
    ),
    lenient("hostInfo", &[("hostInfo", Anything)]),
    lenient("getLog", &[("getLog", Text)]),
    command(
        "profile",
        &[
            ("profile", Number),
            ("slowms", Number),
            ("sampleRate", Number),
            ("filter", Anything),
        ],
    ),
    command("startSession", &[("startSession", Anything)]),
    command("refreshSessions", &[("refreshSessions", Array)]),
    command("endSessions", &[("endSessions", Array)]),
    command("killSessions", &[("killSessions", Array)]),
];
/// How a list's cursor may be.
const LISTED: Part = Part {
    name: "cursor",
    fields: &[("batchSize", Number)],
    required: &[],
    is_open: false,
};

/// Fails where a command has what it may not have.
pub(super) fn check(name: &str, body: &RawDocument) -> Result<(), CommandError> {
    let name = match name {
        "deleteIndexes" => "dropIndexes",
        "dbstats" => "dbStats",
        "collstats" => "collStats",
        name => name,
    };
    let part = COMMANDS.iter().find(|part| part.name == name);
    let mut cursor = None;
    if let Some(part) = part {
        let mut fields = body.iter().inspect(|element| {
            if let Ok((field, value)) = element
                && *field == "cursor"
            {
                cursor = Some(*value);
            }
        });
        // The command itself, which has other names, too.
        if let (Some(first), Some((_, shape))) = (fields.next(), part.fields.first()) {
            part.check_field(name, *shape, first?.1)?;
        }
        part.check_fields(fields)?;
    } else {
        cursor = body.get("cursor")?;
    }
    match cursor {
        Some(RawBsonRef::Document(cursor)) => {
            if part.is_some() {
                LISTED.check(cursor)?;
            }
            super::reading::check_not_negative(cursor, "batchSize")
        }
        _ => Ok(()),
    }
}

impl Part {
    /// Fails with the first field that may not be there, or not so, or is missing.
    pub(super) fn check(&self, document: &RawDocument) -> Result<(), CommandError> {
        self.check_fields(document.iter())?;
        for field in self.required {
            if matches!(document.get(field)?, None | Some(RawBsonRef::Null)) {
                let message = format!(
                    "BSON field '{}.{field}' is missing but a required field",
                    self.name
                );
                return Err(CommandError::new(40414, "Location40414", message));
            }
        }
        Ok(())
    }

    fn check_fields<'a>(
        &self,
        fields: impl Iterator<Item = bson::error::Result<(&'a CStr, RawBsonRef<'a>)>>,
    ) -> Result<(), CommandError> {
        for element in fields {
            let (field, value) = element?;
            let field = field.as_str();
            match self.fields.iter().find(|(name, _)| *name == field) {
                Some((_, shape)) => self.check_field(field, *shape, value)?,
                None if self.is_open || field.starts_with('$') => {}
                None if GENERIC_FIELDS.contains(&field) || field == "maxTimeMSOpOnly" => {}
                None => {
                    let message =
                        format!("BSON field '{}.{field}' is an unknown field.", self.name);
                    return Err(CommandError::new(40415, "Location40415", message));
                }
            }
        }
        Ok(())
    }

    fn check_field(
        &self,
        field: &str,
        shape: Shape,
        value: RawBsonRef<'_>,
    ) -> Result<(), CommandError> {
        let is_it = match (shape, value) {
            (Anything, _) | (_, RawBsonRef::Null) => true,
            (Boolean | Flag, RawBsonRef::Boolean(_)) => true,
            (Flag | Number, value) => is_number(value),
            (Long, value) => matches!(value, RawBsonRef::Int64(_)),
            (Text, value) => matches!(value, RawBsonRef::String(_)),
            (Object, value) => matches!(value, RawBsonRef::Document(_)),
            (Array, value) => matches!(value, RawBsonRef::Array(_)),
            (Boolean, _) => false,
        };
        if is_it {
            return Ok(());
        }
        let found = validation::type_name(&Bson::try_from(value)?);
        Err(CommandError::type_mismatch(format!(
            "BSON field '{}.{field}' is the wrong type '{found}', {}",
            self.name,
            shape.expected()
        )))
    }
}

impl Shape {
    fn expected(self) -> &'static str {
        match self {
            Anything => "expected another type",
            Boolean => "expected type 'bool'",
            Flag => "expected types '[bool, long, int, decimal, double]'",
            Number => "expected types '[long, int, decimal, double]'",
            Long => "expected type 'long'",
            Text => "expected type 'string'",
            Object => "expected type 'object'",
            Array => "expected type 'array'",
        }
    }
}

/// A hint names an index by its name or its key.
pub(super) fn check_hint(hint: Option<RawBsonRef<'_>>) -> Result<(), CommandError> {
    match hint {
        None | Some(RawBsonRef::String(_)) => Ok(()),
        Some(RawBsonRef::Document(key)) => match key.get("$natural")? {
            Some(way) if !matches!(super::integer(way), Some(1 | -1)) => {
                let message = "$natural hint must be 1 or -1";
                Err(CommandError::bad_value(message))
            }
            _ => Ok(()),
        },
        Some(_) => Err(CommandError::failed_to_parse(
            "Hint must be a string or an object",
        )),
    }
}

/// An update is a document, or a pipeline.
pub(super) fn check_update(update: Option<RawBsonRef<'_>>) -> Result<(), CommandError> {
    match update {
        None | Some(RawBsonRef::Document(_) | RawBsonRef::Array(_)) => Ok(()),
        Some(_) => Err(CommandError::failed_to_parse(
            "Update argument must be either an object or an array",
        )),
    }
}
