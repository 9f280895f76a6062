//! What listings are written from, beside the markets: topics that a text can be
//! about, people, amenities. Changing a line changes every data set.

/// Topics: a name, and the words that belong to it (lower case, singular).
pub(crate) const TOPICS: [(&str, &[&str]); 16] = [
    (
        "beach",
        &[
            "beach",
            "sand",
            "seaside",
            "shore",
            "lagoon",
            "swim",
            "sunbathing",
            "towel",
        ],
    ),
    (
        "surf",
        &[
            "surf", "wave", "ocean", "sea", "snorkel", "reef", "kayak", "sail",
        ],
    ),
    (
        "mountain",
        &[
            "mountain", "ski", "snow", "summit", "trail", "hike", "cabin", "lift",
        ],
    ),
    (
        "city",
        &[
            "city", "downtown", "central", "skyline", "tower", "square", "urban", "street",
        ],
    ),
    (
        "nightlife",
        &[
            "nightlife",
            "bar",
            "club",
            "music",
            "concert",
            "dance",
            "party",
            "jazz",
        ],
    ),
    (
        "quiet",
        &[
            "quiet",
            "cozy",
            "calm",
            "peaceful",
            "snug",
            "fireplace",
            "retreat",
            "warm",
        ],
    ),
    (
        "luxury",
        &[
            "luxury",
            "elegant",
            "marble",
            "penthouse",
            "designer",
            "spa",
            "exclusive",
            "concierge",
        ],
    ),
    (
        "family",
        &[
            "family",
            "child",
            "playground",
            "crib",
            "toy",
            "kid",
            "stroller",
            "spacious",
        ],
    ),
    (
        "food",
        &[
            "food",
            "restaurant",
            "bakery",
            "market",
            "cafe",
            "tasting",
            "chef",
            "kitchen",
        ],
    ),
    (
        "history",
        &[
            "history",
            "historic",
            "castle",
            "temple",
            "palace",
            "cathedral",
            "ancient",
            "museum",
        ],
    ),
    (
        "garden",
        &[
            "garden", "forest", "park", "orchard", "terrace", "bird", "lake", "flower",
        ],
    ),
    (
        "transit",
        &[
            "metro", "tram", "bus", "station", "ferry", "train", "airport", "bicycle",
        ],
    ),
    (
        "work",
        &[
            "wifi",
            "desk",
            "office",
            "laptop",
            "monitor",
            "business",
            "conference",
            "printer",
        ],
    ),
    (
        "view",
        &[
            "view", "panorama", "balcony", "sunset", "rooftop", "horizon", "window", "overlook",
        ],
    ),
    (
        "budget",
        &[
            "budget",
            "simple",
            "affordable",
            "hostel",
            "backpacker",
            "shared",
            "cheap",
            "basic",
        ],
    ),
    (
        "art",
        &[
            "art", "gallery", "studio", "painter", "loft", "mural", "theatre", "craft",
        ],
    ),
];

/// Sentences about each topic, in the order of [`TOPICS`].
pub(crate) const SENTENCES: [[&str; 3]; 16] = [
    [
        "The beach begins at the door, with soft sand and a towel for everyone.",
        "Steps from the shore, made for a long day of sunbathing.",
        "Swim in the lagoon before breakfast, the seaside is all yours.",
    ],
    [
        "Surf boards are in the shed and the wave is good all year.",
        "Snorkel over the reef or take the kayak out on the ocean.",
        "You hear the sea from every room, and a sail is never far.",
    ],
    [
        "A cabin below the summit, ski in and ski out while there is snow.",
        "The trail starts behind the house, hike as far as you like.",
        "The lift is two minutes away and the mountain does the rest.",
    ],
    [
        "Right in the downtown, with the skyline in front of you.",
        "A central street, the main square is around the corner.",
        "Urban living in a tower that the whole city knows.",
    ],
    [
        "The best bar of the quarter is downstairs and closes late.",
        "Live music every night, from jazz to dance.",
        "Made for those who come for clubs, concerts and nightlife.",
    ],
    [
        "A cozy and quiet place with a fireplace for cold evenings.",
        "Peaceful and warm, a retreat after a loud day.",
        "Snug rooms, calm neighbours, nothing to disturb you.",
    ],
    [
        "Marble baths, a concierge, and everything that luxury means.",
        "An elegant penthouse by a designer of name.",
        "An exclusive address with its own spa.",
    ],
    [
        "Spacious for a family, with a crib and toys for the kids.",
        "The playground is next door and there is room for a stroller.",
        "Every child gets a bed of its own here.",
    ],
    [
        "A bakery on one side, a restaurant on the other.",
        "The kitchen is a chef's dream and the market is close.",
        "Tasting menus, small cafes and street food all around.",
    ],
    [
        "Between a castle and a cathedral, in the middle of history.",
        "An ancient house near the temple and the palace.",
        "The museum across the road tells the historic side of it.",
    ],
    [
        "A garden full of flowers, and birds that wake you.",
        "The terrace looks over the orchard to the lake.",
        "Between the park and the forest, green wherever you look.",
    ],
    [
        "The metro station is at the corner and the tram runs all night.",
        "The ferry takes you across, the bus to the airport is direct.",
        "Bicycles are free and the train is five minutes away.",
    ],
    [
        "Fast wifi, a large desk and a second monitor.",
        "An office with a printer, good for business and conferences.",
        "Bring the laptop, the work corner is ready.",
    ],
    [
        "A balcony with a panorama that nobody forgets.",
        "Watch the sunset from the rooftop, the horizon is endless.",
        "Every window overlooks something worth a picture, what a view.",
    ],
    [
        "Simple, clean and affordable.",
        "A basic room for backpackers on a budget.",
        "Shared kitchen, cheap and cheerful as a hostel should be.",
    ],
    [
        "The studio of a painter, full of art.",
        "A loft beside the gallery, with a mural on the wall.",
        "Craft and theatre live in this quarter.",
    ],
];

/// Kinds of property, frequent ones first and repeated.
pub(crate) const PROPERTIES: [&str; 24] = [
    "Apartment",
    "Apartment",
    "Apartment",
    "Apartment",
    "Apartment",
    "Apartment",
    "Apartment",
    "Apartment",
    "House",
    "House",
    "House",
    "Condominium",
    "Condominium",
    "Serviced apartment",
    "Loft",
    "Loft",
    "Guesthouse",
    "Townhouse",
    "Bed and breakfast",
    "Villa",
    "Bungalow",
    "Hostel",
    "Cabin",
    "Boat",
];

/// Kinds of room, frequent ones first and repeated.
pub(crate) const ROOMS: [&str; 8] = [
    "Entire home/apt",
    "Entire home/apt",
    "Entire home/apt",
    "Entire home/apt",
    "Entire home/apt",
    "Private room",
    "Private room",
    "Shared room",
];

/// Amenities; the first two are those that exercises filter by.
pub(crate) const AMENITIES: [&str; 40] = [
    "24-hour check-in",
    "Accessible-height bed",
    "Wifi",
    "Kitchen",
    "Essentials",
    "Heating",
    "Air conditioning",
    "TV",
    "Washer",
    "Dryer",
    "Hair dryer",
    "Iron",
    "Hangers",
    "Shampoo",
    "Hot water",
    "Laptop friendly workspace",
    "Smoke detector",
    "Carbon monoxide detector",
    "First aid kit",
    "Fire extinguisher",
    "Free street parking",
    "Free parking on premises",
    "Pool",
    "Hot tub",
    "Gym",
    "Elevator",
    "Breakfast",
    "Coffee maker",
    "Microwave",
    "Oven",
    "Dishwasher",
    "Refrigerator",
    "Patio or balcony",
    "Garden or backyard",
    "BBQ grill",
    "Beachfront",
    "Crib",
    "High chair",
    "Pets allowed",
    "Family/kid friendly",
];

/// First words of names.
pub(crate) const ADJECTIVES: [&str; 16] = [
    "Sunny",
    "Charming",
    "Modern",
    "Bright",
    "Stylish",
    "Rustic",
    "Tiny",
    "Grand",
    "Lovely",
    "Hidden",
    "Breezy",
    "Classic",
    "Colourful",
    "Fresh",
    "Golden",
    "Airy",
];

/// First names of hosts and reviewers.
pub(crate) const PEOPLE: [&str; 40] = [
    "Ada", "Alan", "Amara", "Ana", "Ben", "Bo", "Carla", "Chen", "Dara", "Diego", "Edith", "Elif",
    "Emil", "Farah", "Finn", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jin", "Joana", "Kai",
    "Keiko", "Lars", "Leila", "Lin", "Malia", "Marta", "Mehmet", "Nia", "Noa", "Omar", "Priya",
    "Rui", "Sana", "Tomas", "Uma", "Yara", "Zoe",
];

/// How fast hosts answer.
pub(crate) const RESPONSE_TIMES: [&str; 4] = [
    "within an hour",
    "within a few hours",
    "within a day",
    "a few days or more",
];

/// What reviewers say first.
pub(crate) const PRAISE: [&str; 10] = [
    "We had a wonderful stay.",
    "Exactly as described.",
    "A great host who answers at once.",
    "We would come back any time.",
    "Good value for the price.",
    "Clean, and easy to find.",
    "The pictures do not do it justice.",
    "Check-in was smooth.",
    "A little noisy in the morning, else perfect.",
    "Smaller than it looks, but lovely.",
];
