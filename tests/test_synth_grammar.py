"""The grammar: rows that can be made again, agreement, counting, and what a bad recipe is told."""

import re
import time

import pytest

from core import files
from core.corpus import diversity_metrics, turns
from core.synth import agreement, counting, preview, recipes, rules
from tests.conftest import raises


def read(rules: str, lang: str = "en", head: str = "") -> recipes.Recipe:
    return recipes.read(f"lang: {lang}\n{head}rules:\n{rules}", "test.yaml")


def texts(recipe: recipes.Recipe, count: int, seed: int = 1) -> list[str]:
    return [recipe.make(seed, number)["text"] for number in range(count)]


RULES = '  text: ["{a} {b} {more}"]\n  a: [one, two, three, four, five, six, seven]\n  b: [red, blue]\n  more: ["{a} {more}", end]\n'


def test_any_row_can_be_made_again_alone():
    ordered = texts(read(RULES), 50)
    alone = read(RULES)
    assert [alone.make(1, number)["text"] for number in reversed(range(50))] == ordered[::-1]
    assert texts(read(RULES), 50, seed=2) != ordered


def test_a_bag_gives_every_alternative_before_any_comes_again():
    letters = [f"x{chr(97 + at)}" for at in range(20)]
    recipe = read(f'  text: ["{{a}}"]\n  a: [{", ".join(letters)}]\n')
    said = texts(recipe, 60)
    assert [sorted(said[at : at + 20]) for at in (0, 20, 40)] == [[word.capitalize() for word in letters]] * 3
    assert said[:20] != said[20:40]


def test_recursion_ends_within_its_depth():
    recipe = read('  text: ["{t}"]\n  t: ["9 * a{t}{t}", b]\n', head="depth: 4\ndecay: 1\n")
    assert max(len(text) for text in texts(recipe, 200)) <= 2**5


def test_weights_count():
    recipe = read('  text: ["9 * {x}", "{y}"]\n  x: [rain]\n  y: [snow]\n')
    assert 850 < texts(recipe, 1000).count("Rain") < 950


def test_what_is_remembered_is_recalled_with_its_fields():
    recipe = read(
        '  text: ["{m:=motif}{$m} and {$m.big}; {n=motif} {$n.big|cap}"]\n  motif:\n    - {word: drop, big: sea}\n'
    )
    assert texts(recipe, 1) == ["Drop and sea; drop Sea"]


def test_russian_agrees_by_gender_case_number_and_count():
    recipe = read(
        '  text: ["{h:=hero}{n:=num}{$h} {go|past as=$h} без {thing|gent}, {$n} {boat|num=$n}, {adj|as=$h} {$h}"]\n'
        '  hero: [старая мельница]\n  num: ["5"]\n  go: [прийти]\n  thing: [тёплый дом у моря]\n  boat: [лодка]\n  adj: [тихий]\n',
        lang="ru",
    )
    assert texts(recipe, 1) == ["Старая мельница пришла без тёплого дома у моря, 5 лодок, тихая старая мельница"]
    assert agreement.gender_and_number("дежурная по станции") == ("femn", "sing")
    assert agreement.phrase("молодой вдовец", frozenset({"accs"})) == "молодого вдовца"


def test_english_has_articles_and_plurals():
    assert [agreement.English().inflect(word, agreement.English().how("a", "r"), "") for word in ("hour", "use", "owl")] == [
        "an hour", "a use", "an owl",
    ]  # fmt: skip
    assert [agreement.plural(word) for word in ("box", "city", "ring of keys", "old woman")] == [
        "boxes", "cities", "rings of keys", "old women",
    ]  # fmt: skip


def test_records_whose_fields_share_a_name_are_counted():
    recipe = read(
        '  text: ["{a:=one}{b:=two}{$a.said}"]\n'
        '  one:\n    - {word: x, said: ["{$b.said} a", "{$b.said} b"]}\n'
        "  two:\n    - {word: y, said: [c, d]}\n"
    )
    assert counting.distinct(recipe)["texts"] == 4


def test_few_texts_are_counted_exactly_and_many_by_derivations():
    assert counting.distinct(read('  text: ["{a} {b}"]\n  a: [x, y, x]\n  b: [q, w, e]\n')) == {
        "log10": 0.8, "exact": True, "texts": 6,
    }  # fmt: skip
    many = counting.distinct(read('  text: ["{a}{a}{a}{a}{a}{a}"]\n  a: [q, w, e, r, t, y, u, i, o, p]\n'))
    assert many == {"log10": 6.0, "exact": False, "texts": None}


def test_lint_finds_the_unreachable_and_the_dominating():
    recipe = read('  text: ["2 * once upon a time there was {a}", "{a}"]\n  a: [x, y]\n  lost: [z]\n')
    found = [(one["code"], one["rule"], one["text"]) for one in counting.lint(recipe)]
    assert found == [("unreachable", "lost", ""), ("dominating", "text", "once upon a time there was")]


@pytest.mark.parametrize(
    ("rules", "trouble", "words"),
    [
        (
            '  text: ["{t}"]\n  t: ["a {t}", "b {u}"]\n  u: ["{t}"]\n',
            "RuleEndless",
            'rule "text" never comes to an end',
        ),
        ('  text: ["{nobody}"]\n', "RuleMissing", 'uses "nobody", which is not defined'),
        ('  text: ["{a"]\n', "SlotUnreadable", "slot {a cannot be read"),
        ('  text: ["{$h}"]\n', "NothingRemembered", r'recalls "\$h" before'),
        ('  text: ["{a|gent}"]\n  a: [x]\n', "FormUnknown", 'asks for the form "gent"'),
        ("  text: []\n", "RuleEmpty", 'rule "text" has no alternatives'),
    ],
)
def test_a_bad_rule_is_named(rules, trouble, words):
    with raises(trouble, match=words):
        read(rules)


DOUBLING = "".join(f"  r{at}: ['{{r{at + 1}}}{{r{at + 1}}}']\n" for at in range(45)) + "  r45: [x]\n"
CHAIN = "".join(f"  r{at}: ['{{r{at + 1}}}']\n" for at in range(20_000)) + "  r20000: [x]\n"
LOOP = "".join(f"  r{at}: ['{{r{(at + 1) % 20_000}}}', x]\n" for at in range(20_000))
LAUGHS = "kind: grid\nprompt: '{a8}'\naxes:\n  a0: &a0 [x, y]\n" + "".join(
    f"  a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]\n" for at in range(1, 9)
)


@pytest.mark.parametrize(
    ("head", "rules", "trouble", "words"),
    [
        ("", "  r0: ['0 * x', '0 * y']\n", "WeightsZero", 'rule "r0" every alternative has the weight 0'),
        ("", f"  r0: ['{'9' * 400} * x', y]\n", "WeightWrong", r"the weight 999999999999… \(400\) is not between"),
        ("", "  r0: ['-3 * x', y]\n", "WeightWrong", "the weight -3 is not between 0 and 1e"),
        ("depth: 1000000000\n", "  r0: ['x {r0}', y]\n", "SettingWrong", "depth is 1000000000; .* between 1 and 64"),
        ("depth: lots\n", "  r0: ['x {r0}', y]\n", "SettingWrong", "depth is lots"),
        ("depth: -5\n", "  r0: ['x {r0}', y]\n", "SettingWrong", "depth is -5"),
        ("decay: -3\n", "  r0: ['x {r0}', y]\n", "SettingWrong", "decay is -3; .* between 0.01 and 1"),
        ("decay: .nan\n", "  r0: ['x {r0}', y]\n", "SettingWrong", "decay is nan"),
        ("", DOUBLING, "RowTooManySteps", "more than 100000 rules to make one row"),
        pytest.param("", CHAIN, "RowTooDeep", 'rule "r0" uses rules within rules so deep', marks=pytest.mark.slow),
        ("", "  r0: &r\n    x: *r\n", "RulesEndless", "rules or lists contain themselves"),
    ],
)  # fmt: skip
def test_what_would_never_end_ends_in_words_within_seconds(head, rules, trouble, words):
    began = time.monotonic()
    with raises(trouble, match=words):
        counting.distinct(read(rules, head=f"start: r0\n{head}"))
    assert time.monotonic() - began < 20


def test_a_recipe_of_600_bytes_that_would_hold_a_billion_texts_is_refused():
    assert len(LAUGHS) < 700
    with raises("AliasTooLong", match=r"a.yaml, line 9: with all that \*a4 stands for, the recipe has more"):
        preview.first(recipes.from_text(LAUGHS, "a.yaml"))
    with pytest.raises(files.TextTooLong, match=r"a\.yaml has more than 1048576 characters"):
        recipes.from_text("#" * (2**20 + 1), "a.yaml")


def test_an_alias_stands_for_a_list_of_words_and_a_star_for_itself():
    assert set(texts(read("  text: ['{b}']\n  a: &a [rain, snow]\n  b: *a\n"), 20)) == {"Rain", "Snow"}
    assert texts(read("  text: ['0.5 * snow', \"*snow*\"]\n"), 1)[0].lower() in ("snow", "*snow*")


@pytest.mark.slow
def test_twenty_thousand_rules_in_a_loop_make_rows():
    recipe = read(LOOP, head="start: r0\n")
    assert texts(recipe, 3) == ["X"] * 3


def test_an_alternative_of_weight_zero_is_never_drawn():
    assert set(texts(read("  text: ['0 * rain', snow, '0 * {text} {text}']\n"), 50)) == {"Snow"}
    ends = read("  text: ['{t}']\n  t: ['0 * x', 'a {t}', b]\n", head="decay: 0.01\ndepth: 3\n")
    assert {text.split()[-1].lower() for text in texts(ends, 50)} == {"b"}


def test_loops_and_heights_are_those_of_the_rules():
    links = {0: [{1}, {2}], 1: [{0, 3}], 2: [set()], 3: [{4}], 4: [{3}, set()], 5: [{5}]}
    assert rules.least_heights(links) == {2: 0, 4: 0, 0: 1, 3: 1, 1: 2}
    loops = rules.loops(links)
    assert (loops[0] == loops[1], loops[3] == loops[4], loops[0] != loops[3]) == (True, True, True)
    assert sorted(loops) == [0, 1, 3, 4, 5]
    assert rules.reached(links, [3]) == {3, 4}


def test_bad_yaml_is_told_by_its_line():
    with raises("RecipeUnreadable", match=r"test.yaml, line 4: this is not YAML"):
        recipes.read("lang: en\nrules:\n  text: [a, b\n  c: d\n", "test.yaml")
    with raises("FieldUnknown", match='"ruels" is not known'):
        recipes.read("lang: en\nruels: {}\n", "test.yaml")


def test_a_row_that_never_ends_is_refused():
    recipe = read('  text: ["{t}"]\n  t: ["9 * ' + "word " * 400 + '{t}{t}{t}{t}", b]\n', head="depth: 9\ndecay: 1\n")
    with raises("RowTooLong", match="more than 200000 characters"):
        texts(recipe, 20)


@pytest.mark.parametrize("name", [one["name"] for one in recipes.listed() if one["kind"] in (None, "grammar")])
def test_the_recipes_of_the_program_are_sound(name):
    recipe = recipes.load(name)
    rows = [recipe.make(3, number) for number in range(300)]
    written = [text for row in rows for text in turns.texts(row)]
    assert not [text for text in written if "{" in text or "}" in text or "  " in text or " ." in text or " ," in text]
    assert len({str(row) for row in rows}) == 300
    assert [one for one in counting.lint(recipe) if one["code"] == "unreachable"] == []
    assert counting.distinct(recipe)["log10"] > 9


@pytest.mark.slow
@pytest.mark.parametrize("name", [one["name"] for one in recipes.listed() if one["kind"] in (None, "grammar")])
def test_the_x_ray_of_two_thousand_rows_is_what_the_recipe_is_for(name):
    """Style varies like a text; the others are whole small texts, which come back, and the page says so."""
    recipe = recipes.load(name)
    found = diversity_metrics.measure(
        [turns.learned(recipe.make(7, number)) for number in range(diversity_metrics.SAMPLE)]
    )
    lights = {gauge: one["light"] for gauge, one in found["gauges"].items()}
    assert lights["vendi"] != "red", found["gauges"]
    if name.startswith("style"):
        assert "red" not in lights.values(), found["gauges"]
        assert {lights[gauge] for gauge in ("distinct_3", "openings", "vendi", "self_bleu")} == {"green"}


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_a_deal_within_a_deal_keeps_the_thing_and_the_owner_of_each(lang):
    """What a name with _ remembers is the alternative's own, however deep the rule uses itself."""
    recipe = read(
        '  text: ["{w:=thing}{deal}"]\n'
        '  deal: ["3 * {_mine:=$w}{w:=thing}[{$_mine} for {deal} gives {$_mine}]", "{_mine:=$w}<{$_mine}>"]\n'
        "  thing: [a, b, c, d, e, f, g, h]\n",
        lang,
        "depth: 6\ndecay: 1\n",
    )
    said = texts(recipe, 100)
    assert max(text.count("[") for text in said) > 1
    for text in said:
        while "[" in text:
            inner = re.search(r"\[(\w) for (<\w>) gives (\w)\]", text, re.IGNORECASE)
            assert inner[1].lower() == inner[3].lower()
            text = text.replace(inner[0], f"<{inner[1]}>")


def test_a_table_makes_records_and_a_lone_slot_hands_them_on():
    rules = (
        "  text: ['{p:=person}{$p}, {$p.trade} {$p.at}']\n  person: ['{man}']\n"
        "  man: |\n    = name | trade={trade} | at=in {town}\n    Leo\n    Otto | baker, baker | at sea\n"
        "  trade: [miller]\n  town: [Riga]\n"
    )
    assert {text for text in texts(read(rules), 30)} == {"Leo, miller in Riga", "Otto, baker at sea"}


def test_shared_words_are_copied_into_the_recipe_that_names_them(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("lang: en\ninclude: words-en\nrules:\n  text: ['{number} {woman}']\n", encoding="utf-8")
    recipe = recipes.load(path)
    assert set(recipe.grammar.rules) == {"text", "number", "woman", "trade"}
    assert recipes.read(recipe.text, "own.yaml").hash == recipe.hash
    path.write_text("lang: en\ninclude: nowhere\nrules:\n  text: [x]\n", encoding="utf-8")
    with raises("IncludeUnknown", match='include names "nowhere"'):
        recipes.load(path)


def test_russian_adjectives_follow_life_gender_and_stubborn_words():
    said = read(
        '  text: ["{t:=thing}{$t.adj|accs as=$t} {$t|accs}; со {$t|ablt}"]\n'
        "  thing: |\n    = word | adj\n    паук | домашний\n    берёза | кривой\n    стол | хромой\n",
        lang="ru",
    )
    assert {text.split(";")[0] for text in texts(said, 30)} == {"Домашнего паука", "Кривую берёзу", "Хромой стол"}


def test_a_word_that_may_be_alive_or_not_is_a_thing():
    accusative = frozenset({"accs"})
    said = [agreement.phrase(f"старый {word}", accusative) for word in ("флюгер", "конёк", "паук", "рояль")]
    assert said == ["старый флюгер", "старый конёк", "старого паука", "старый рояль"]


def test_english_verbs_follow_their_plurals():
    words = ["leaf veins", "a delta", "geese", "first stars", "grass"]
    verbs = [agreement.English().inflect("dries up", agreement.English().how("as=$s", "r"), word) for word in words]
    assert verbs == ["dry up", "dries up", "dry up", "dry up", "dries up"]
    verbs = {"dies": "die", "catches": "catch", "forks": "fork", "closes": "close", "freezes": "freeze", "is": "are"}
    assert [agreement.base(verb) for verb in verbs] == list(verbs.values())


def formed(text: str, forms: str, like: str = "", before: str = "") -> str:
    russian = agreement.Russian({})
    return russian.inflect(text, russian.how(forms, "rule", before), like)


@pytest.mark.parametrize(
    ("text", "gent", "accs", "loct"),
    [
        ("Лука", "Луки", "Луку", "Луке"),
        ("Лев", "Льва", "Льва", "Льве"),
        ("Лев Толстой", "Льва Толстого", "Льва Толстого", "Льве Толстом"),
        ("Анна Каренина", "Анны Карениной", "Анну Каренину", "Анне Карениной"),
        ("Мария Кюри", "Марии Кюри", "Марию Кюри", "Марии Кюри"),
        ("Иван Иванович Иванов", "Ивана Ивановича Иванова", "Ивана Ивановича Иванова", "Иване Ивановиче Иванове"),
        ("Садовая", "Садовой", "Садовую", "Садовой"),
        ("улица Тверская", "улицы Тверской", "улицу Тверскую", "улице Тверской"),
        ("Тверская улица", "Тверской улицы", "Тверскую улицу", "Тверской улице"),
        ("Невский проспект", "Невского проспекта", "Невский проспект", "Невском проспекте"),
        ("рабочий стол", "рабочего стола", "рабочий стол", "рабочем столе"),
        ("тренер по шахматам", "тренера по шахматам", "тренера по шахматам", "тренере по шахматам"),
    ],
)
def test_names_surnames_and_streets_are_inflected_whole(text, gent, accs, loct):
    assert [formed(text, form) for form in ("gent", "accs", "loct")] == [gent, accs, loct]


@pytest.mark.parametrize(
    ("like", "came", "goes"),
    [("Лука", "пришёл", "идёт"), ("я", "пришёл", "иду"), ("мы", "пришли", "идём"), ("она", "пришла", "идёт"),
     ("всё", "пришло", "идёт"), ("старые часы", "пришли", "идут"), ("Анна Каренина", "пришла", "идёт")],
)  # fmt: skip
def test_verbs_agree_with_names_and_pronouns(like, came, goes):
    assert (formed("прийти", "past as=$p", like), formed("идти", "pres as=$p", like)) == (came, goes)


def test_pronouns_take_an_n_after_a_preposition():
    assert [formed(word, "gent", before="это у ") for word in ("он", "она", "они", "ты")] == [
        "него",
        "неё",
        "них",
        "тебя",
    ]
    assert [formed(word, "gent", before="боится ") for word in ("он", "она", "они")] == ["его", "её", "их"]


def test_a_place_is_in_the_second_locative_and_what_is_told_of_is_not():
    recipe = read('  text: ["Он в {thing|loct}, речь о {thing|loct}."]\n  thing: [старый лес]\n', lang="ru")
    assert texts(recipe, 1) == ["Он в старом лесу, речь о старом лесе."]
    assert [formed(word, "loct", before="на ") for word in ("мост", "снег", "стол")] == ["мосту", "снегу", "столе"]


def test_a_place_becomes_a_goal():
    goals = {
        "во дворе": "во двор", "на старом мосту": "на старый мост", "в Старой Руссе": "в Старую Руссу",
        "под кроватью": "под кровать", "за железной дорогой": "за железную дорогу", "у окна": "к окну",
        "на кончиках пальцев": "на кончики пальцев", "на Выборгской": "на Выборгскую", "посреди избы": "посреди избы",
    }  # fmt: skip
    assert {place: formed(place, "goal") for place in goals} == goals


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_fractals_hold_a_rule_within_itself_to_different_depths(lang):
    recipe = recipes.load(f"fractals-{lang}")
    paths = [recipe.make(1, number)["path"].split(".") for number in range(600)]
    depths = {sum(step[:-1] == "deep" for step in path) for path in paths}
    assert recipe.grammar.rules["deep"].recursive
    assert depths >= {0, 1, 2, 3}
    assert max(depths) <= recipe.grammar.depth + 1


OF_ONE_GENDER = re.compile(r"\b(?:жена|жене|мужа?|мужу|оба, по|ты был|приезжал один|his wife|her husband)\b")


@pytest.mark.parametrize("name", ["fractals-ru", "resonance-ru", "fractals-en", "resonance-en"])
def test_a_person_who_may_be_a_man_or_a_woman_has_no_partner_and_no_past_of_one_gender(name):
    lines = [line for line in recipes.load(name).text.split("\n") if re.search(r"\{\$[pqr]\b", line)]
    assert [line.strip() for line in lines if OF_ONE_GENDER.search(line)] == []
    assert len(lines) > 30


def test_what_the_voices_advise_fits_into_any_place_of_a_sentence():
    """A clause with a comma inside would need another one after it, wherever the sentence goes on."""
    advice = recipes.load("archetypes-ru").values["rules"]["question"]
    assert [one[part] for one in advice for part in ("a", "b", "no") if "," in one[part]] == []
