//! `user_list.csv`: rows become seats, mistakes have a place.

use arena_workshop::participants::{self, Participants, RESERVED, Spare};
use arena_workshop::{Problems, SourceFile};
use proptest::prelude::*;

fn parse_with(text: impl Into<Vec<u8>>, spare: u32) -> (Option<Participants>, Problems) {
    let file = SourceFile::new("user_list.csv", text);
    let mut problems = Problems::default();
    let spare = Spare {
        prefix: "Arena-Cluster".to_owned(),
        start: 0,
        count: spare,
    };
    (
        participants::parse(Some(&file), &spare, &mut problems),
        problems,
    )
}

fn shown(text: impl Into<Vec<u8>>, spare: u32) -> String {
    let (participants, problems) = parse_with(text, spare);
    let mut shown = String::new();
    for seat in participants
        .iter()
        .flat_map(|participants| &participants.seats)
    {
        shown += &match &seat.person {
            Some(person) => format!("{} = {} <{}>\n", seat.id, person.display_name, person.email),
            None => format!("{}\n", seat.id),
        };
    }
    format!("{shown}{problems}")
}

#[test]
fn rows_become_seats_and_spare_ones_follow() {
    insta::assert_snapshot!(shown(
        "\u{feff}name, surname, email\r\nJohn, Doe , John.Doe@example.com\r\n\"Lovelace, Ada\",,ada+x@example.com\r\n,,mary_jane@x.org\n\n  \n Änne,Öz,änne@x.org\n",
        2
    ), @r"
    john-doe = John Doe <John.Doe@example.com>
    ada-x = Lovelace, Ada <ada+x@example.com>
    mary-jane = mary-jane <mary_jane@x.org>
    nne = Änne Öz <änne@x.org>
    arena-cluster0
    arena-cluster1
    ");
}

#[test]
fn namesakes_and_reserved_names_are_numbered_with_a_warning() {
    insta::assert_snapshot!(shown(
        "name,surname,email\nA,,ada@x.org\nB,,ada@y.org\nC,,Ada@z.org\nD,,ada-2@x.org\nE,,admin@x.org\nF,,ada@X.org\nG,,arena-cluster0@x.org\nH,,ada--code@x.org\n",
        1
    ));
}

#[test]
fn mistakes_of_a_list_have_line_and_column() {
    let mut all = String::new();
    for text in [
        "name,surname,email\nA,,\nB,B,nobody\nC,C,@x.org\nD,D,...@x.org\n\"E,E,e@x.org\nF,F,f@x.org\n",
        "name;surname;email\nA;;ada@x.org\n",
        "Ada,Lovelace,ada@x.org\n",
        "name,surname,e-mail\nA,,ada@x.org\n",
        "name,email,email\n",
        "",
    ] {
        all += &shown(text, 0);
        all += "----\n";
    }
    all += &shown(b"name,surname,email\nJos\xe9,,jose@x.org\n", 0);
    insta::assert_snapshot!(all);
}

#[test]
fn long_names_are_cut() {
    let text = format!(
        "name,surname,email\n{},,{}@x.org\n{0},,{1}y@x.org\n",
        "x".repeat(300),
        "a".repeat(64)
    );
    let (participants, problems) = parse_with(text, 0);
    let seats = participants.unwrap().seats;
    assert_eq!(seats[0].id.as_str(), "a".repeat(50));
    assert_eq!(seats[1].id.as_str(), format!("{}-2", "a".repeat(48)));
    assert_eq!(seats[0].person.as_ref().unwrap().display_name.len(), 100);
    assert_eq!(problems.len(), 5);
}

#[test]
fn five_thousand_namesakes_have_five_thousand_seats() {
    let mut text = "name,surname,email\n".to_owned();
    for n in 0..5_000 {
        text += &format!("N{n},,ada@{n}.org\n");
    }
    let (participants, problems) = parse_with(text, 5);
    let ids: std::collections::BTreeSet<_> = participants
        .unwrap()
        .seats
        .into_iter()
        .map(|seat| seat.id)
        .collect();
    assert_eq!(ids.len(), 5_005);
    assert_eq!(problems.len(), 4_999);
}

#[test]
fn too_long_a_list_is_refused() {
    let rows: String = (0..10_001).map(|n| format!("a,b,u{n}@x.org\n")).collect();
    assert!(
        parse_with(format!("name,surname,email\n{rows}"), 0)
            .0
            .is_none()
    );
    assert!(parse_with(vec![b'x'; 10 * 1024 * 1024], 0).0.is_none());
}

proptest! {
    #[test]
    fn any_text_gives_seats_or_errors(text in "(name,surname,email\n)?[a-zA-Z@.,\"'\n\r ;\t\u{e9}0-9_-]{0,200}") {
        let (participants, problems) = parse_with(text.as_str(), 3);
        prop_assert_eq!(participants.is_none(), problems.has_errors());
        let _ = problems.to_string();
        let ids: Vec<_> = participants.into_iter().flat_map(|participants| participants.seats).map(|seat| seat.id).collect();
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        prop_assert_eq!(distinct.len(), ids.len());
        prop_assert!(ids.iter().all(|id| !RESERVED.contains(&id.as_str())));
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_, problems) = parse_with(bytes, 1);
        let _ = problems.to_string();
    }
}
