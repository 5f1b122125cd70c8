"""Generated questions: labels against independent solvers, depth as asked, balance, the same ones in every process."""

import hashlib
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations, permutations, product

import pytest

from rlrules.data.reasoning.horn import Rule, verdict
from rlrules.data.reasoning.kinship import LABELS, RULES, WORDS
from rlrules.data.reasoning.problem import Problem
from rlrules.data.rule_reasoning import FAMILIES
from rlrules.errors import DataError

SEEDS = 240
Facts = set[tuple[str, bool]]


def made(family: str, world: str = "open", distractors: int = 3) -> list[Problem]:
    least, most = FAMILIES[family].depths
    depths = [least + seed % (most - least + 1) for seed in range(SEEDS)]
    problems = [
        FAMILIES[family].make(f"{family}/{seed}", depth, distractors, world)  # type: ignore[arg-type]
        for seed, depth in enumerate(depths)
    ]
    assert [problem.depth for problem in problems] == depths
    assert all(problem.answer in problem.labels for problem in problems)
    assert all(FAMILIES[family].solve(problem.text) == problem.answer for problem in problems)
    return problems


def lines(text: str, heading: str) -> list[str]:
    return [line[2:] for line in text.split(f"{heading}:\n")[1].split("\n") if line.startswith("- ")] if heading else []


def read_deduction(text: str) -> tuple[list[tuple[list[str], str, bool]], Facts, str, bool]:
    """Rules, what is said of the one asked about, the property asked about, and whether it is asked affirmatively."""
    head, _, question = text.partition("Question: is it true that ")
    told, _, said = head.partition("Facts:\n")
    rules = []
    for line in re.findall(r"- (.*)\.\n", told):
        words = re.sub(r"If something is |Everything that is |, then it| a\b|Every |Each |No ", "", line)
        before, after = re.split(r" is (?:not )?", words)
        rules.append((before.split(" and "), after.strip(), not (" not " in line or line.startswith("No "))))
    who, asked = question.split("?")[0].split(" is ")
    facts = [line.split(" is ")[1] for line in re.findall(r"- (.*)\.\n", said) if line.startswith(f"{who} is ")]
    known = {(fact.split()[-1], not fact.startswith("not ")) for fact in facts}
    return rules, known, asked.split()[-1], not asked.startswith("not ")


def chained(rules: list[tuple[list[str], str, bool]], known: Facts) -> dict[tuple[str, bool], int]:
    """Height of the lowest proof of all that follows."""
    found, height = dict.fromkeys(known, 0), 0
    while True:
        height += 1
        new = {(name, sign) for before, name, sign in rules if all((one, True) in found for one in before)}
        if not new - found.keys():
            return found
        found |= dict.fromkeys(new - found.keys(), height)


@pytest.mark.parametrize(("family", "world"), [("deduction", "open"), ("deduction", "closed"), ("ontology", "open")])
def test_deductions_by_a_solver_of_their_own(family: str, world: str) -> None:
    problems = made(family, world)
    for problem in problems:
        rules, known, name, affirmed = read_deduction(problem.text)
        found = chained(rules, known)
        assert not any((one, not sign) in found for one, sign in found), "a contradiction"
        if (name, True) in found or (name, False) in found:
            assert problem.answer == str(((name, True) in found) == affirmed)
            assert found[name, (name, True) in found] == problem.depth
        else:
            assert problem.answer == (str(not affirmed) if world == "closed" else "Unknown")
            # One fact more, and it is as many steps away as was asked for.
            words = {word for before, after, _ in rules for word in [*before, after]} | {name}
            mended = [chained(rules, known | {(word, True)}) for word in words]
            assert problem.depth in [one.get((name, sign)) for one in mended for sign in (True, False)]
    answers = Counter(problem.answer for problem in problems)
    assert set(answers) == set(problems[0].labels)
    assert min(answers.values()) > 0.7 * SEEDS / len(answers)
    polarities = Counter((problem.answer, read_deduction(problem.text)[3]) for problem in problems)
    assert min(polarities.values()) > 0.3 * SEEDS / len(answers), "the answer shows in how it is asked"


def test_trying_all_worlds_by_hand() -> None:
    rules = [Rule(("wet",), ("cold", True)), Rule(("cold", "old"), ("warm", False))]
    assert verdict([("wet", True), ("old", True)], rules, ("cold", True), closed=False) == "True"
    assert verdict([("wet", True), ("old", True)], rules, ("warm", True), closed=False) == "False"
    assert verdict([("wet", True)], rules, ("warm", True), closed=False) == "Unknown"
    assert verdict([("wet", True)], rules[:1], ("warm", True), closed=True) == "False"
    # Backwards: what is not cold is not wet.
    assert verdict([("cold", False)], rules, ("wet", True), closed=False) == "False"
    with pytest.raises(ValueError, match="contradict"):
        verdict([("wet", True), ("cold", False)], rules, ("old", True), closed=False)


def test_rules_of_kinship_hold_in_a_family() -> None:
    """A couple's descendants, four generations deep, against relations read off the tree."""
    parents: dict[str, tuple[str, str] | None] = {"a": None, "a'": None}
    line = ["a"]
    for children in ("123", "12", "12"):
        further = []
        for person in line:
            for number in children:
                child = person + number
                # Partners come from outside, and are nobody's kin.
                parents |= {child: (person, f"{person}'"), f"{child}'": None}
                further.append(child)
        line = further
    kin = {(one, other): read_kin(parents, one, other) for one, other in product(parents, repeat=2)}
    outcomes: dict[object, set[object]] = {}
    for one, middle, other in permutations(parents, 3):
        first, step = kin[one, middle], kin[middle, other]
        if first in WORDS and step in ((1, 0), (0, 1), (1, 1)):
            outcomes.setdefault((first, step), set()).add(kin[one, other])
    assert outcomes.keys() >= RULES.keys()
    for case, found in outcomes.items():
        if case in RULES:
            assert found == {RULES[case]}  # type: ignore[index]
        else:
            # The tree does not settle it, or there is no word for it.
            assert len(found) > 1 or not found & WORDS.keys(), case


def read_kin(parents: dict[str, tuple[str, str] | None], one: str, other: str) -> tuple[int, int] | None:
    """Generations up from `one` to the nearest common ancestor, and down to `other`."""
    if one == other:
        return None
    above = [ancestors(parents, person) for person in (one, other)]
    shared = [(above[0][person], above[1][person]) for person in above[0] if person in above[1]]
    return min(shared, key=sum, default=None)


def ancestors(parents: dict[str, tuple[str, str] | None], person: str) -> dict[str, int]:
    found, row, height = {}, [person], 0
    while row:
        found |= {one: height for one in row if one not in found}
        row = [above for one in row for above in parents[one] or ()]
        height += 1
    return found


def test_kinship_by_folding_the_chain() -> None:
    problems = made("kinship")
    kinds = {word: kin for kin, words in WORDS.items() for word in words}
    for problem in problems:
        facts = re.findall(r"- (\w+) is the (\w+) of (\w+)\.", problem.text)
        end, start = re.findall(r"what is (\w+) to (\w+)\?", problem.text)[0]
        behind = {who: (word, of) for who, word, of in facts}
        chain = []
        while end != start:
            word, end = behind[end]
            chain.append(word)
        kin = kinds[chain[-1]]
        for word in chain[-2::-1]:
            kin = RULES[kin, kinds[word]]
        assert problem.answer == WORDS[kin][chain[0] in ("father", "son", "brother")]
        assert len(chain) - 1 == problem.depth
    assert len({problem.answer for problem in problems}) > len(LABELS) // 2


def test_orders_by_going_through_all() -> None:
    problems = made("ordering", distractors=2)
    nth = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh"]
    for problem in problems[:60]:
        names = problem.text.split(" stand side")[0].split(", ")
        clues = re.findall(r"- ([^)\n]*\.)\n", problem.text)
        asked = nth.index(re.findall(r"who is the (\w+) from", problem.text)[0])
        options = dict(re.findall(r"- ([A-G])\) (\w+)", problem.text))
        orders = list(permutations(names))
        fits = [{number for number, order in enumerate(orders) if holds(clue, order, nth)} for clue in clues]
        assert {orders[number][asked] for number in set.intersection(*fits)} == {options[problem.answer]}
        # No fewer of the clues do.
        if len(names) <= 5:
            for chosen in combinations(fits, problem.depth - 1):
                left = set.intersection(*chosen) if chosen else range(len(orders))
                assert len({orders[number][asked] for number in left}) > 1
    letters = Counter(problem.answer for problem in problems)
    assert letters["A"] < 0.4 * SEEDS


def holds(clue: str, order: tuple[str, ...], nth: list[str]) -> bool:
    place = {name: number for number, name in enumerate(order)}
    if match := re.fullmatch(r"(\w+) stands (somewhere|directly) to the left of (\w+)\.", clue):
        gap = place[match[3]] - place[match[1]]
        return gap == 1 if match[2] == "directly" else gap > 0
    if match := re.fullmatch(r"There (?:is|are) exactly (\d) between (\w+) and (\w+)\.", clue):
        return abs(place[match[2]] - place[match[3]]) == int(match[1]) + 1
    match = re.fullmatch(r"(\w+) is (not )?the (\w+) from the left\.", clue)
    assert match, clue
    return (place[match[1]] == nth.index(match[3])) is not bool(match[2])


def test_the_same_in_every_process() -> None:
    program = (
        "import hashlib; from rlrules.data.rule_reasoning import FAMILIES as F;"
        "t = ''.join(F[f].make(str(s), 2, 3, 'open').text for f in F for s in range(5));"
        "print(hashlib.sha256(t.encode()).hexdigest())"
    )
    text = "".join(FAMILIES[f].make(str(s), 2, 3, "open").text for f in FAMILIES for s in range(5))
    for hash_seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == hashlib.sha256(text.encode()).hexdigest()


def test_more_distractors_than_there_is_room_for() -> None:
    assert FAMILIES["kinship"].make("0", 5, 8, "open").depth == 5
    with pytest.raises(DataError, match="ask for fewer distractors"):
        FAMILIES["kinship"].make("0", 1, 40, "open")
