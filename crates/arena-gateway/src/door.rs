//! What happens to a request, in order: read it, find its host, find who asks,
//! see whether that page may ask and that person may enter, wake the seat if it
//! sleeps, forward.

use std::net::IpAddr;
use std::time::Instant;

use arena_store::{Actor, SeatRecord, Session};
use arena_workshop::SeatId;
use arena_workshop::plan::Surface;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::cookies::{self, CookieNames};
use crate::fetch_rule::{Asked, Verdict, judge};
use crate::forward::{Passage, Trust};
use crate::head_tap::LengthSeen;
use crate::headers::{self, Said};
use crate::hold::{Patience, Waiting};
use crate::inbound::{Inbound, Kind, SEC_FETCH_SITE};
use crate::look_in::Place;
use crate::refusal::Refusal;
use crate::session::{self, ENTER_PATH, VOUCH_PATH};
use crate::tenure::Tenure;
use crate::upstream::Upstreams;
use crate::{Routes, Settings, Target, Upstream, pages};

const HEALTH_PATH: &str = "/health";
/// The gateway's own on every host; never forwarded to a seat.
const OWN_PATHS: &str = "/_arena/";

/// What all connections share.
pub(crate) struct Door {
    settings: Settings,
    names: CookieNames,
    upstreams: Upstreams,
    waiting: Waiting,
    /// WebSockets: hyper does not know them any more.
    pub(crate) relays: TaskTracker,
    ending: CancellationToken,
}

/// A request whose host is known.
struct Coming<'a> {
    peer: IpAddr,
    inbound: &'a Inbound,
    routes: &'a Routes,
    place: &'a Place<'a>,
    session: Option<Session>,
}

impl Coming<'_> {
    fn target(&self) -> &Target {
        &self.place.target
    }
}

impl Door {
    /// Returns a door; `ending` tells WebSockets to close.
    pub(crate) fn new(settings: Settings, ending: CancellationToken) -> Self {
        Self {
            names: CookieNames::new(&settings),
            upstreams: Upstreams::new(settings.routes.clone(), &settings.limits),
            waiting: Waiting::new(&settings.limits),
            relays: TaskTracker::new(),
            settings,
            ending,
        }
    }

    /// Answers a request, whatever it is.
    pub(crate) async fn answer(
        &self,
        peer: IpAddr,
        length: &LengthSeen,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let started = Instant::now();
        let method = request.method().clone();
        let portal_origin = self.settings.portal_origin();
        let inbound = match Inbound::read(&request, length) {
            Ok(inbound) => inbound,
            Err(refusal) => {
                let mut response = pages::refused(&refusal, false, &portal_origin);
                headers::secure(response.headers_mut(), &self.settings, "'none'");
                tracing::info!(http.method = %method, http.status = response.status().as_u16(), code = refusal.code(), "refused");
                return response;
            }
        };
        let routes = self.settings.routes.load_full();
        let place = Place::of(&self.settings, &routes, &inbound.host);
        let ancestors = place.as_ref().map_or("'none'".to_owned(), |place| {
            place.frame_ancestors(&self.settings, &routes)
        });
        let admitted = self.admit((peer, &inbound), &routes, place.as_ref(), request);
        let mut response = match admitted.await {
            Ok(response) => response,
            Err(refusal) => pages::refused(&refusal, inbound.kind.is_seen(), &portal_origin),
        };
        headers::secure(response.headers_mut(), &self.settings, &ancestors);
        tracing::info!(
            http.method = %method,
            http.status = response.status().as_u16(),
            http.host = inbound.host,
            route.path = first_segment(inbound.path.path()),
            seat.id = place.as_ref().and_then(|place| seat_of(&place.target.surface)).map(SeatId::as_str),
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
        response
    }

    async fn admit(
        &self,
        (peer, inbound): (IpAddr, &Inbound),
        routes: &Routes,
        place: Option<&Place<'_>>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        if inbound.path.path() == HEALTH_PATH {
            return Ok(pages::healthy());
        }
        let place = place.ok_or(Refusal::UnknownHost)?;
        let headers = request.headers();
        if cookies::size_bytes(headers) > self.settings.limits.cookie_bytes_max {
            return Err(Refusal::Cookies(
                cookies::names(headers).map(str::to_owned).collect(),
            ));
        }
        if let Some(editor) = self.editor_instead(routes, place, inbound, request.method()) {
            return pages::moved(&editor);
        }
        let session = session::find(&self.settings, &self.names, headers, &inbound.host)
            .filter(|session| place.lets_in(&session.principal));
        let verdict = judge(Asked {
            method: request.method(),
            headers,
            kind: inbound.kind,
            has_session: session.is_some(),
            // The portal's page frames other hosts, whose hand-over passes by here.
            can_be_framed: place.target.surface != Surface::Portal
                || inbound.path.path() == VOUCH_PATH,
            origin: &self.settings.origin(&inbound.host),
        });
        if verdict == Verdict::Foreign {
            return Err(Refusal::Foreign);
        }
        self.dispatch(
            Coming {
                peer,
                inbound,
                routes,
                place,
                session,
            },
            request,
        )
        .await
    }

    /// The seat's own host has no first page: its editor lives at an origin of its own.
    fn editor_instead(
        &self,
        routes: &Routes,
        place: &Place<'_>,
        inbound: &Inbound,
        method: &Method,
    ) -> Option<String> {
        if !matches!(place.target.surface, Surface::SeatApps(_)) {
            return None;
        }
        let reads = *method == Method::GET || *method == Method::HEAD;
        if inbound.path.path() != "/" || !reads || inbound.kind == Kind::WebSocket {
            return None;
        }
        let editor = place.editor_host(&self.settings, routes)?;
        Some(format!("{}{}", self.settings.origin(&editor), inbound.path))
    }

    async fn dispatch(
        &self,
        coming: Coming<'_>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let (path, query) = (
            coming.inbound.path.path(),
            coming.inbound.path.query().unwrap_or_default(),
        );
        let surface = &coming.target().surface;
        let is_get = request.method() == Method::GET;
        match surface {
            Surface::Portal if path == VOUCH_PATH && is_get => session::vouch(
                &self.settings,
                coming.routes,
                coming.session.as_ref(),
                query,
            ),
            Surface::Instructions | Surface::SeatApps(_) | Surface::SeatEditor(_)
                if path == ENTER_PATH && is_get =>
            {
                let host = (coming.inbound.host.as_str(), coming.place);
                session::enter(&self.settings, &self.names, request.headers(), host, query).await
            }
            _ if format!("{path}/").starts_with(OWN_PATHS) => {
                self.to_portal(&coming, request).await
            }
            Surface::Portal => self.to_portal(&coming, request).await,
            Surface::Instructions => {
                if coming.session.is_none()
                    && coming.inbound.kind.is_seen()
                    && !self.is_nobody(request.headers())
                {
                    return self.begin(&coming, request.headers());
                }
                self.to_portal(&coming, request).await
            }
            Surface::SeatApps(seat) | Surface::SeatEditor(seat) => {
                self.to_seat(&coming, seat, request).await
            }
        }
    }

    fn is_nobody(&self, headers: &HeaderMap) -> bool {
        !cookies::values(headers, &self.names.nobody).is_empty()
    }

    fn begin(&self, coming: &Coming<'_>, headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
        session::begin(
            &self.settings,
            &self.names,
            headers,
            &coming.inbound.host,
            coming.inbound.path.as_str(),
        )
    }

    async fn to_portal(
        &self,
        coming: &Coming<'_>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let surface = match &coming.target().surface {
            Surface::Portal => "portal",
            Surface::Instructions => "instructions",
            Surface::SeatApps(_) => "seat",
            Surface::SeatEditor(_) => "editor",
        };
        let said = Said {
            surface,
            seat: seat_of(&coming.target().surface),
            user: None,
            principal: coming
                .session
                .as_ref()
                .map(|session| session.principal.to_string()),
            session: coming.session.as_ref().map(|session| session.id.as_str()),
        };
        let is_own = matches!(
            coming.target().surface,
            Surface::Portal | Surface::Instructions
        ) && !format!("{}/", coming.inbound.path.path()).starts_with(OWN_PATHS);
        let upstream = if is_own {
            &coming.target().upstream
        } else {
            coming.routes.portal()
        };
        self.passage(coming, upstream, said, Trust::Platform)
            .forward(request)
            .await
    }

    async fn to_seat(
        &self,
        coming: &Coming<'_>,
        seat: &SeatId,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let Some(session) = &coming.session else {
            if coming.inbound.kind.is_seen() {
                return self.begin(coming, request.headers());
            }
            return Err(Refusal::NoSession);
        };
        let (surface, record) = if matches!(coming.target().surface, Surface::SeatEditor(_)) {
            (
                "editor",
                self.awake(coming, seat, session, request.headers()).await?,
            )
        } else {
            (
                "apps",
                self.settings.store.seat(seat).ok_or(Refusal::SeatDown)?,
            )
        };
        // An app may show who is there: it is not the participant.
        let looks_in = coming.place.visit.as_ref();
        let user = looks_in.map_or(&record.display_name, |visit| &visit.facilitator);
        let said = Said {
            surface,
            seat: Some(seat),
            user: Some(user),
            principal: None,
            session: None,
        };
        self.passage(coming, &coming.target().upstream, said, Trust::Seat)
            .forward(request)
            .await
    }

    async fn awake(
        &self,
        coming: &Coming<'_>,
        seat: &SeatId,
        session: &Session,
        headers: &HeaderMap,
    ) -> Result<SeatRecord, Refusal> {
        let is_own_page = headers
            .get(SEC_FETCH_SITE)
            .is_some_and(|site| site == "same-origin");
        let patience = match coming.inbound.kind {
            Kind::Page | Kind::Frame if is_own_page => Patience::WaitingPage,
            Kind::Page | Kind::Frame => Patience::Page,
            Kind::WebSocket | Kind::Call => Patience::Call,
        };
        let by = Actor::from(session.principal.clone());
        self.waiting
            .until_awake(&self.settings.store, seat, by, patience)
            .await
    }

    fn passage<'a>(
        &'a self,
        coming: &'a Coming<'_>,
        upstream: &'a Upstream,
        said: Said<'a>,
        trust: Trust,
    ) -> Passage<'a> {
        Passage {
            settings: &self.settings,
            upstreams: &self.upstreams,
            relays: &self.relays,
            ending: &self.ending,
            peer: coming.peer,
            inbound: coming.inbound,
            upstream,
            said,
            trust,
            tenure: coming.session.as_ref().map(|session| {
                Tenure::new(&self.settings.store, session, coming.place.visit.as_ref())
            }),
        }
    }
}

fn seat_of(surface: &Surface) -> Option<&SeatId> {
    match surface {
        Surface::SeatApps(seat) | Surface::SeatEditor(seat) => Some(seat),
        Surface::Portal | Surface::Instructions => None,
    }
}

/// Paths may hold tokens (personal links): only their beginning is logged.
fn first_segment(path: &str) -> &str {
    path[1..].find('/').map_or(path, |end| &path[..=end])
}
