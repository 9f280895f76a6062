//! May the page that sent this request ask for it? All hosts of an event are one
//! *site*, so `SameSite` cookies do not separate them: a seat's page could post to
//! the portal with the portal's cookie. [`judge`] is the rule that separates them,
//! by what browsers say about a request's origin and no page can forge.

use http::header::ORIGIN;
use http::{HeaderMap, Method};

use crate::inbound::{Kind, SEC_FETCH_SITE};

/// What is known about a request and where it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) kind: Kind,
    /// Whether it comes with a session.
    pub(crate) has_session: bool,
    /// Whether pages of the same event may put this host into a frame. Which of them really
    /// can, the answer's `frame-ancestors` decides.
    pub(crate) can_be_framed: bool,
    /// Origin of the host it is for.
    pub(crate) origin: &'a str,
}

/// What the rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on.
    Allowed,
    /// Another origin's page asked.
    Foreign,
}

/// Says whether a request may go on.
pub(crate) fn judge(asked: Asked<'_>) -> Verdict {
    let allowed = if asked.kind == Kind::WebSocket {
        // Every browser sends `Origin` with a WebSocket, not every one the other headers.
        named_origin(asked.headers) == Named::One(asked.origin)
    } else if is_safe(asked.method) {
        may_read(asked)
    } else {
        may_change(asked)
    };
    if allowed {
        Verdict::Allowed
    } else {
        Verdict::Foreign
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Without a session nothing is read that is not public.
fn may_read(asked: Asked<'_>) -> bool {
    match site(asked.headers) {
        Site::Unsaid | Site::Same | Site::User => true,
        _ if !asked.has_session => true,
        Site::Sibling => {
            asked.kind == Kind::Page || (asked.kind == Kind::Frame && asked.can_be_framed)
        }
        Site::Foreign => asked.kind == Kind::Page,
    }
}

/// Also without a session: to make someone join, or log in, is a change too.
fn may_change(asked: Asked<'_>) -> bool {
    let origin = named_origin(asked.headers);
    match site(asked.headers) {
        Site::Same | Site::User => {
            matches!(origin, Named::None) || origin == Named::One(asked.origin)
        }
        Site::Unsaid if origin == Named::None => !asked.has_session,
        Site::Unsaid => origin == Named::One(asked.origin),
        Site::Sibling | Site::Foreign => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Site {
    Unsaid,
    Same,
    User,
    Sibling,
    Foreign,
}

fn site(headers: &HeaderMap) -> Site {
    let mut values = headers.get_all(SEC_FETCH_SITE).iter();
    match (values.next().map(|value| value.as_bytes()), values.next()) {
        (None, _) => Site::Unsaid,
        (Some(b"same-origin"), None) => Site::Same,
        (Some(b"none"), None) => Site::User,
        (Some(b"same-site"), None) => Site::Sibling,
        _ => Site::Foreign,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    None,
    One(&'a str),
    Unclear,
}

fn named_origin(headers: &HeaderMap) -> Named<'_> {
    let mut values = headers.get_all(ORIGIN).iter();
    match (values.next(), values.next()) {
        (None, _) => Named::None,
        (Some(value), None) => value.to_str().map_or(Named::Unclear, Named::One),
        _ => Named::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "http://arena.localhost:8080";
    const OTHER: &str = "http://eve.arena.localhost:8080";

    struct Case {
        method: Method,
        kind: Kind,
        site: Option<&'static str>,
        origin: Option<&'static str>,
        has_session: bool,
        can_be_framed: bool,
    }

    fn case(method: Method, kind: Kind) -> Case {
        Case {
            method,
            kind,
            site: None,
            origin: None,
            has_session: true,
            can_be_framed: false,
        }
    }

    impl Case {
        fn site(self, site: &'static str) -> Self {
            Self {
                site: Some(site),
                ..self
            }
        }
        fn origin(self, origin: &'static str) -> Self {
            Self {
                origin: Some(origin),
                ..self
            }
        }
        fn anonymous(self) -> Self {
            Self {
                has_session: false,
                ..self
            }
        }
        fn framable(self) -> Self {
            Self {
                can_be_framed: true,
                ..self
            }
        }
        fn is_allowed(&self) -> bool {
            let mut headers = HeaderMap::new();
            if let Some(site) = self.site {
                headers.insert(SEC_FETCH_SITE, site.parse().unwrap());
            }
            if let Some(origin) = self.origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            let asked = Asked {
                method: &self.method,
                headers: &headers,
                kind: self.kind,
                has_session: self.has_session,
                can_be_framed: self.can_be_framed,
                origin: OWN,
            };
            judge(asked) == Verdict::Allowed
        }
    }

    #[test]
    fn a_session_is_only_used_by_its_own_pages_and_by_navigations() {
        let get = || case(Method::GET, Kind::Call);
        assert!(get().is_allowed(), "a browser that says nothing may read");
        assert!(get().site("same-origin").is_allowed());
        assert!(get().site("none").is_allowed());
        assert!(!get().site("same-site").is_allowed());
        assert!(!get().site("cross-site").is_allowed());
        assert!(!get().site("made-up").is_allowed());
        assert!(get().site("same-site").anonymous().is_allowed());
        let page = || case(Method::GET, Kind::Page);
        assert!(page().site("cross-site").is_allowed());
        assert!(page().site("same-site").is_allowed());
    }

    #[test]
    fn only_framable_hosts_open_in_frames_and_only_of_the_same_event() {
        let frame = || case(Method::GET, Kind::Frame);
        assert!(frame().site("same-site").framable().is_allowed());
        assert!(!frame().site("same-site").is_allowed());
        assert!(!frame().site("cross-site").framable().is_allowed());
        assert!(frame().site("same-origin").is_allowed());
    }

    #[test]
    fn changes_come_from_the_hosts_own_pages() {
        let post = || case(Method::POST, Kind::Call);
        assert!(post().site("same-origin").origin(OWN).is_allowed());
        assert!(
            post().origin(OWN).is_allowed(),
            "an older browser that names its origin"
        );
        assert!(!post().is_allowed(), "a session and nothing said");
        assert!(!post().origin(OTHER).is_allowed());
        assert!(!post().origin("null").is_allowed());
        assert!(!post().site("same-site").origin(OTHER).is_allowed());
        assert!(!post().site("same-site").origin(OWN).is_allowed());
        assert!(!post().site("none").origin(OTHER).is_allowed());
        assert!(
            post().anonymous().is_allowed(),
            "a script without a session"
        );
        assert!(
            !post().anonymous().site("cross-site").is_allowed(),
            "making someone join"
        );
        assert!(
            !case(Method::POST, Kind::Page)
                .site("cross-site")
                .is_allowed()
        );
    }

    #[test]
    fn a_websocket_names_its_origin() {
        let socket = || case(Method::GET, Kind::WebSocket);
        assert!(socket().origin(OWN).is_allowed());
        assert!(!socket().origin(OTHER).is_allowed());
        assert!(!socket().is_allowed());
        assert!(!socket().site("same-origin").is_allowed());
    }
}
