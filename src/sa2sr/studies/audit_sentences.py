"""What the audit says: sentences in threes, alike but for one word, and the voices that say them.

Every carrier has a place for one word, and three words for it: a positive and a negative one, as the people rated them
whose means are VADER's lexicon, and one that the lexicon does not know. The three have about the same length when
spoken, and no word or stem of a word comes twice, so that the carriers are independent of one another. Nothing else in
a carrier has a rating, and no carrier is about a people or a country.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sa2sr.audio import probe
from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.espeak import Prosody
from sa2sr.corpora.spoken import SpokenUtterance, speak_all
from sa2sr.corpora.voices import VOICES, Group, choose_voices
from sa2sr.errors import AudioError, UserError

Sentiment = Literal["positive", "neutral", "negative"]
SENTIMENTS: tuple[Sentiment, ...] = get_args(Sentiment)

LANGUAGE = "en-us"
PROSODY = Prosody()  # the same for all sentences and voices: the engine's own

# Of voices that sound alike all but one: their normalised frames of one sentence differ by less than about 0.35 of a
# standard deviation. They would count as independent where they are not.
NEAR_COPIES = frozenset(
    (
        *("Gene2", "Henrique", "Michael", "adam", "aunty", "benjamin", "f5", "john", "klatt", "klatt3", "klatt4", "m5"),
        *("m6", "m7", "max", "michel", "miguel", "mike2", "steph3"),
    )
)


@dataclass(frozen=True)
class Triple:
    """A carrier, with a place for one word, and the words for it."""

    carrier: str
    positive: str
    neutral: str
    negative: str

    def word(self, sentiment: Sentiment) -> str:
        """The word of a sentiment."""
        return {"positive": self.positive, "neutral": self.neutral, "negative": self.negative}[sentiment]

    def sentence(self, sentiment: Sentiment) -> str:
        """The sentence of a sentiment."""
        return self.carrier.format(self.word(sentiment))


TRIPLES = (
    Triple("my aunt is {}", "happy", "forty", "angry"),
    Triple("the letter was {}", "lovely", "yellow", "ugly"),
    Triple("it was a {} afternoon", "wonderful", "typical", "terrible"),
    Triple("my uncle told us a {} story", "funny", "local", "nasty"),
    Triple("they put on {} music at the station", "sweet", "loud", "sad"),
    Triple("my brother {} the manager", "admired", "described", "despised"),
    Triple("the teacher {} my drawing", "enjoyed", "received", "destroyed"),
    Triple("the committee {} the plan", "praised", "filed", "blamed"),
    Triple("the visitors were {} by the garden", "delighted", "surrounded", "disgusted"),
    Triple("he is a {} driver", "clever", "taxi", "stupid"),
    Triple("the judge made a {} decision", "wise", "first", "wrong"),
    Triple("the company had an {} year", "excellent", "average", "agonizing"),
    Triple("my sister had a {} lunch", "beautiful", "similar", "horrible"),
    Triple("the boy wrote with {}", "joy", "chalk", "hate"),
    Triple("everyone talked about the {}", "miracle", "calendar", "murderer"),
    Triple("we watched a {} game last night", "thrilling", "second", "boring"),
    Triple("it is a {} place to live", "pleasant", "central", "violent"),
    Triple("they gave us a {} reply", "cheerful", "written", "bitter"),
    Triple("the king was a {} man", "noble", "bearded", "wicked"),
    Triple("the outcome was {}", "fantastic", "specific", "disastrous"),
    Triple("he is the {} of the story", "hero", "baker", "liar"),
    Triple("the new year brought {}", "hope", "snow", "war"),
    Triple("her speech was about {}", "freedom", "timber", "torture"),
    Triple("this is a {} idea", "splendid", "standard", "dreadful"),
    Triple("the lesson was {}", "exciting", "electric", "depressing"),
    Triple("the game ended in {}", "laughter", "april", "panic"),
    Triple("the villagers {} the river", "blessed", "crossed", "feared"),
    Triple("the man looked {}", "healthy", "thirty", "guilty"),
    Triple("the plan was a {}", "success", "design", "betrayal"),
    Triple("our teacher is a {} person", "brilliant", "private", "brutal"),
    Triple("my cousin spoke of {}", "peace", "wool", "death"),
    Triple("the boat was {}", "safe", "small", "lost"),
    Triple("the farmer {} his horse", "trusted", "counted", "injured"),
    Triple("the actor {} the audience", "inspired", "informed", "insulted"),
    Triple("the bus was full of {}", "winners", "teachers", "killers"),
    Triple("the queen was {}", "adored", "announced", "abused"),
    Triple("she is a {} dancer", "graceful", "modern", "lousy"),
    Triple("the captain was {}", "generous", "medical", "dangerous"),
    Triple("the shop around the corner is {}", "popular", "circular", "miserable"),
    Triple("the film about the desert was {}", "impressive", "recorded", "offensive"),
    Triple("the dog was {}", "gentle", "spotted", "vicious"),
    Triple("the museum is {}", "amazing", "historic", "appalling"),
    Triple("the garden looked {}", "attractive", "suburban", "neglected"),
    Triple("the castle was {}", "fabulous", "visible", "frightening"),
    Triple("everybody heard the {}", "applause", "report", "assault"),
    Triple("my cousin sent us {} news", "great", "late", "bad"),
    Triple("the pupils were {}", "proud", "short", "scared"),
    Triple("the gate keeper was {}", "kind", "tall", "cruel"),
)


def voices_of(wanted: str) -> dict[Group, tuple[str, ...]]:
    """The voices that a user wants, by group.

    Args:
        wanted: ``"distinct"``, all that sound different from one another, or as :func:`choose_voices` takes it

    Raises:
        CorpusError: if a name is not known
    """
    if wanted.strip() == "distinct":
        return {group: tuple(name for name in names if name not in NEAR_COPIES) for group, names in VOICES.items()}
    return choose_voices(wanted)


def utterances_of(triples: tuple[Triple, ...], voices: Mapping[Group, tuple[str, ...]]) -> list[SpokenUtterance]:
    """Every sentence by every voice, each with its place in the design; the splits are the groups of voices."""
    return [
        SpokenUtterance(
            f"{number:02}-{sentiment}-{voice}",
            triple.sentence(sentiment),
            f"{LANGUAGE}+{voice}",
            PROSODY,
            group,
            custom={"carrier": number, "words": sentiment},
        )
        for group, names in voices.items()
        for voice in names
        for number, triple in enumerate(triples)
        for sentiment in SENTIMENTS
    ]


# --- Speaking them ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpokenSentence:
    """A file and its place in the design."""

    path: Path
    carrier: int
    sentiment: int  # of SENTIMENTS
    voice: int  # of Speech.voices
    seconds: float


@dataclass(frozen=True)
class Speech:
    """All sentences, by all voices."""

    triples: tuple[Triple, ...]
    groups: Mapping[Group, tuple[str, ...]]
    files: list[SpokenSentence]
    not_spoken: list[str]  # and why

    @property
    def voices(self) -> list[str]:
        """All voices, in the order of their groups."""
        return [name for names in self.groups.values() for name in names]


def speak_sentences(
    triples: tuple[Triple, ...],
    groups: Mapping[Group, tuple[str, ...]],
    folder: str | Path,
    *,
    jobs: int | None = None,
) -> Speech:
    """Speak what is not in the folder yet.

    Raises:
        UserError: if nothing can be spoken
    """
    places = {name: index for index, name in enumerate(name for names in groups.values() for name in names)}
    files, not_spoken = [], []
    for entry in speak_all(utterances_of(triples, groups), Path(folder), jobs=jobs):
        if isinstance(entry, Problem):
            not_spoken.append(f"{entry.item}: {entry.detail}")
            continue
        try:
            seconds = probe(entry.audio).seconds
        except AudioError as error:
            not_spoken.append(f"{entry.name}: {error}")
            continue
        place = (entry.custom["carrier"], SENTIMENTS.index(entry.custom["words"]), places[str(entry.speaker)])
        files.append(SpokenSentence(entry.audio, *place, seconds))
    if not files:
        raise UserError(f"{folder}: nothing could be spoken ({not_spoken[0] if not_spoken else 'no sentences'})")
    return Speech(triples, groups, files, not_spoken)
