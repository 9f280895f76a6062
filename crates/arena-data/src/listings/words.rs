//! What listings are written from: markets with their own words, topics that a
//! text can be about, people, amenities. Changing a line changes every data set.

/// A place with listings.
#[derive(Debug)]
pub(crate) struct Market {
    pub(crate) name: &'static str,
    pub(crate) country: &'static str,
    pub(crate) code: &'static str,
    /// Longitude and latitude of the middle, in millionths of a degree.
    pub(crate) middle: (i64, i64),
    /// Median price of a night, in cents.
    pub(crate) median: u64,
    pub(crate) suburbs: [&'static str; 4],
    /// What texts about it may be about, as indices of [`TOPICS`].
    pub(crate) topics: [usize; 4],
    /// Sentences only found here.
    pub(crate) sentences: [&'static str; 3],
}

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

/// The fifteen markets. The first four are islands of Hawaii.
pub(crate) const MARKETS: [Market; 15] = [
    Market {
        name: "Oahu",
        country: "United States",
        code: "US",
        middle: (-157_858_333, 21_306_944),
        median: 16_900,
        suburbs: ["Waikiki", "Haleiwa", "Kailua", "Kahala"],
        topics: [0, 1, 13, 4],
        sentences: [
            "Aloha from Waikiki, with Diamond Head behind the palms.",
            "The North Shore and its winter waves are an hour away.",
            "Shave ice and poke at the corner, as Hawaii should be.",
        ],
    },
    Market {
        name: "Maui",
        country: "United States",
        code: "US",
        middle: (-156_446_600, 20_798_363),
        median: 19_900,
        suburbs: ["Kihei", "Lahaina", "Wailea", "Paia"],
        topics: [0, 1, 6, 13],
        sentences: [
            "Whales pass the lanai from December to April.",
            "Up on Haleakala the sun rises over the clouds.",
            "The road to Hana starts in front of the house.",
        ],
    },
    Market {
        name: "Kauai",
        country: "United States",
        code: "US",
        middle: (-159_526_100, 22_096_400),
        median: 18_500,
        suburbs: ["Princeville", "Poipu", "Hanalei", "Kapaa"],
        topics: [0, 10, 2, 5],
        sentences: [
            "The Na Pali cliffs are best seen from the water.",
            "Waimea Canyon glows red in the evening.",
            "Hanalei Bay is a short walk under ironwood trees.",
        ],
    },
    Market {
        name: "The Big Island",
        country: "United States",
        code: "US",
        middle: (-155_582_800, 19_542_900),
        median: 14_900,
        suburbs: ["Kailua Kona", "Hilo", "Volcano", "Waikoloa"],
        topics: [0, 2, 10, 8],
        sentences: [
            "Kilauea steams behind the fern trees.",
            "Kona coffee grows on the slope above us.",
            "Manta rays come to the lights of the bay at night.",
        ],
    },
    Market {
        name: "New York",
        country: "United States",
        code: "US",
        middle: (-73_985_700, 40_748_400),
        median: 12_900,
        suburbs: ["Harlem", "Williamsburg", "Chelsea", "Astoria"],
        topics: [3, 4, 15, 11],
        sentences: [
            "Brooklyn brownstones and bagels on every block.",
            "Manhattan glitters beyond the bridge.",
            "Broadway is three stops away.",
        ],
    },
    Market {
        name: "Porto",
        country: "Portugal",
        code: "PT",
        middle: (-8_611_000, 41_149_600),
        median: 5900,
        suburbs: ["Ribeira", "Bonfim", "Cedofeita", "Foz do Douro"],
        topics: [9, 8, 13, 11],
        sentences: [
            "Port wine cellars line the other side of the Douro.",
            "Azulejo tiles cover the facade.",
            "The Dom Luis bridge is the way to the sardines.",
        ],
    },
    Market {
        name: "Istanbul",
        country: "Turkey",
        code: "TR",
        middle: (28_978_400, 41_008_200),
        median: 4900,
        suburbs: ["Beyoglu", "Kadikoy", "Besiktas", "Fatih"],
        topics: [9, 8, 13, 3],
        sentences: [
            "The Bosphorus is between you and another continent.",
            "Call for tea, the bazaar delivers to the door.",
            "Galata wakes up with simit and seagulls.",
        ],
    },
    Market {
        name: "Sydney",
        country: "Australia",
        code: "AU",
        middle: (151_209_300, -33_868_800),
        median: 14_500,
        suburbs: ["Bondi", "Manly", "Surry Hills", "Newtown"],
        topics: [0, 1, 3, 7],
        sentences: [
            "Bondi and its coastal walk are downhill from here.",
            "The harbour bridge shows between the gum trees.",
            "Flat whites and lamingtons until three.",
        ],
    },
    Market {
        name: "Hong Kong",
        country: "Hong Kong",
        code: "HK",
        middle: (114_169_400, 22_319_300),
        median: 9900,
        suburbs: ["Sheung Wan", "Mong Kok", "Wan Chai", "Sai Kung"],
        topics: [3, 13, 8, 12],
        sentences: [
            "Dim sum carts roll from six in the morning.",
            "Star Ferry and neon below the peak.",
            "Mahjong tiles click behind every door of the lane.",
        ],
    },
    Market {
        name: "Barcelona",
        country: "Spain",
        code: "ES",
        middle: (2_173_400, 41_385_100),
        median: 8900,
        suburbs: ["Gracia", "El Born", "Eixample", "Poblenou"],
        topics: [0, 4, 15, 8],
        sentences: [
            "Gaudi built the house across the road.",
            "Tapas and vermouth fill the ramblas.",
            "Barceloneta is a ride by tram away.",
        ],
    },
    Market {
        name: "Montreal",
        country: "Canada",
        code: "CA",
        middle: (-73_567_300, 45_501_700),
        median: 7900,
        suburbs: ["Le Plateau", "Mile End", "Verdun", "Griffintown"],
        topics: [2, 15, 4, 5],
        sentences: [
            "Poutine and maple syrup warm the winter.",
            "Spiral stairs lead up to the flat as everywhere on the Plateau.",
            "The Saint Lawrence freezes, the festivals do not.",
        ],
    },
    Market {
        name: "Rio De Janeiro",
        country: "Brazil",
        code: "BR",
        middle: (-43_172_900, -22_906_800),
        median: 8500,
        suburbs: ["Copacabana", "Ipanema", "Botafogo", "Santa Teresa"],
        topics: [0, 4, 13, 7],
        sentences: [
            "Samba schools rehearse below Sugarloaf.",
            "Caipirinhas on the Copacabana pavement.",
            "Christ the Redeemer looks into the living room.",
        ],
    },
    Market {
        name: "Bergen",
        country: "Norway",
        code: "NO",
        middle: (5_322_000, 60_391_300),
        median: 9500,
        suburbs: ["Bryggen", "Nordnes", "Sandviken", "Laksevag"],
        topics: [2, 5, 11, 10],
        sentences: [
            "The Floibanen funicular starts two houses on.",
            "Fjords begin where the fish market ends.",
            "Rain on wooden houses, and waffles with brown cheese.",
        ],
    },
    Market {
        name: "Kyoto",
        country: "Japan",
        code: "JP",
        middle: (135_768_100, 35_011_600),
        median: 10_900,
        suburbs: ["Gion", "Arashiyama", "Fushimi", "Kamigyo"],
        topics: [9, 10, 5, 8],
        sentences: [
            "Tatami rooms and a tea house in the yard.",
            "Vermilion torii climb the hill behind Fushimi.",
            "Maples and bamboo, and a bell at six.",
        ],
    },
    Market {
        name: "Cape Town",
        country: "South Africa",
        code: "ZA",
        middle: (18_424_100, -33_924_900),
        median: 7500,
        suburbs: ["Camps Bay", "Woodstock", "Sea Point", "Gardens"],
        topics: [0, 2, 13, 6],
        sentences: [
            "Table Mountain puts on its cloth in the afternoon.",
            "Penguins waddle at Boulders, vineyards wait in Constantia.",
            "Rooibos on the stoep with proteas in bloom.",
        ],
    },
];

/// Markets of Hawaii: the first so many of [`MARKETS`].
pub(crate) const HAWAII: usize = 4;

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
