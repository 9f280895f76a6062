//! The markets that listings lie in, each with its own words. Changing a line
//! changes every data set.

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
    /// What texts about it may be about, as indices of `TOPICS`.
    pub(crate) topics: [usize; 4],
    /// Sentences only found here.
    pub(crate) sentences: [&'static str; 3],
}

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
