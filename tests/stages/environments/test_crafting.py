"""The crafting game: its texts, what it refuses and how it says so, rewards, and ways back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.environments import EnvTask, make
from stages.environments.crafting import Crafting
from tests.stages.environments.worlds import SPEC, crafting, play, playing

MAKE_TARN = ("get 2 oriv", "get 1 mel", "craft 1 tarn using 2 oriv, 1 mel")


def test_what_a_player_sees() -> None:
    first = crafting().reset(EnvTask("by-hand", "train", SPEC))
    assert first.split("\n") == [
        "Recipes:",
        "1 tarn = 2 oriv + 1 mel",
        "1 kabe = 1 tarn",
        "2 sulk = 1 tarn + 1 any gorf",
        "Any gorf: pel or tiv",
        "Base items: mel, oriv, pel, tiv",
        "Goal: sulk",
    ]


def test_a_game_from_start_to_goal() -> None:
    env = playing()
    assert play(env, *MAKE_TARN, "inventory", "get 1 tiv") == [
        "You took 2 oriv.",
        "You took 1 mel.",
        "You made 1 tarn.",
        "You have 1 tarn.",
        "You took 1 tiv.",
    ]
    end = env.step("craft 2 sulk using 1 tiv, 1 tarn")
    assert (end.observation, end.reward, end.done) == ("You made 2 sulk. That is the goal.", 1.0, True)
    after = env.step("get 1 oriv")
    assert (after.observation, after.reward, after.done, after.info) == (
        "The game is over.",
        1.0,
        True,
        {"executed": False},
    )


@pytest.mark.parametrize(
    ("before", "action", "reply"),
    [
        ((), "get 0 oriv", "A count goes from 1 to 9999."),
        ((), "get 10000 oriv", "A count goes from 1 to 9999."),
        ((), f"get {'9' * 5000} oriv", "A count goes from 1 to 9999."),
        ((), "get oriv", "Say how many of what: get 2 ITEM."),
        ((), "get 1 tarn", "tarn cannot be taken. Craft it."),
        ((), "get 1 gorf", "gorf is a kind of item. Name one: pel or tiv."),
        ((), "get 1 any gorf", "gorf is a kind of item. Name one: pel or tiv."),
        ((), "get 1 iron", "There is no iron."),
        ((), "craft 1 mel using 1 oriv", "mel cannot be crafted. Get it."),
        ((), "craft 1 tarn", "Say what to craft of what: craft 1 ITEM using 2 ITEM, 1 ITEM."),
        (
            (),
            "craft 1 tarn using oriv",
            "After using, give a count and a name for each, with commas: 2 ITEM, 1 ITEM.",
        ),
        (
            (),
            "craft 1 tarn using 2 oriv,",
            "After using, give a count and a name for each, with commas: 2 ITEM, 1 ITEM.",
        ),
        ((), "craft 1 tarn using 0 oriv, 1 mel", "A count goes from 1 to 9999."),
        ((), "craft 1 tarn using 2 oriv, 1 mel", "You have 0 oriv, not 2."),
        ((), "craft 1 tarn using 2 iron", "There is no iron."),
        (("get 3 oriv", "get 1 mel"), "craft 1 tarn using 3 oriv, 1 mel", "1 tarn takes 2 oriv, not 3."),
        (("get 3 oriv", "get 1 mel"), "craft 1 tarn using 2 oriv", "1 tarn takes 1 mel, not 0."),
        (("get 3 oriv", "get 1 mel"), "craft 2 tarn using 2 oriv, 1 mel", "2 tarn takes 4 oriv, not 2."),
        (
            ("get 3 oriv", "get 1 mel", "get 1 pel"),
            "craft 1 tarn using 2 oriv, 1 mel, 1 pel",
            "tarn takes no pel.",
        ),
        (
            (*MAKE_TARN, "get 1 pel"),
            "craft 1 sulk using 1 tarn, 1 pel",
            "A recipe makes 2 sulk at a time, not 1.",
        ),
        (MAKE_TARN, "craft 2 sulk using 1 tarn", "2 sulk takes 1 any gorf (pel or tiv), not 0."),
        ((), "look around", "Unknown action. Use get, craft or inventory."),
        ((), "", "Unknown action. Use get, craft or inventory."),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(before: tuple[str, ...], action: str, reply: str) -> None:
    env = playing()
    play(env, *before)
    state, shown = env.state_hash(), play(env, "inventory")
    step = env.step(action)
    assert (step.observation, step.info["executed"]) == (reply, False)
    assert (env.state_hash(), play(env, "inventory")) == (state, shown)


@pytest.mark.parametrize("action", ["GET  2   Oriv", "get 2 oriv.", " get 2 oriv \n"])
def test_case_blanks_and_a_full_stop_do_not_matter(action: str) -> None:
    assert play(playing(), action) == ["You took 2 oriv."]


def test_whole_multiples_and_mixed_families() -> None:
    env = playing()
    play(env, "get 4 oriv", "get 2 mel", "craft 2 tarn using 2 oriv, 2 mel, 2 oriv", "get 1 pel", "get 1 tiv")
    assert play(env, "craft 4 sulk using 2 tarn, 1 pel, 1 tiv") == ["You made 4 sulk. That is the goal."]


def test_an_item_may_be_wanted_by_name_and_as_one_of_a_family() -> None:
    env = playing(recipes=[["sulk", 1, [["gorf", 2], ["pel", 2]]]])
    play(env, "get 5 pel", "get 3 tiv")
    assert play(env, "craft 1 sulk using 1 pel, 3 tiv") == ["1 sulk takes 2 pel, not 1."]
    assert play(env, "craft 1 sulk using 4 pel, 1 tiv") == ["1 sulk takes 2 any gorf (pel or tiv), not 3."]
    assert play(env, "craft 1 sulk using 3 pel, 1 tiv") == ["You made 1 sulk. That is the goal."]


def test_graded_reward_counts_each_item_on_the_way_once() -> None:
    env = playing()
    assert [env.step(a).reward for a in (*MAKE_TARN, *MAKE_TARN, "craft 1 kabe using 1 tarn")] == [
        0,
        0,
        0.5,
        0.5,
        0.5,
        0.5,
        0.5,
    ]


def test_binary_reward_is_for_the_goal_alone() -> None:
    env = playing("binary")
    assert [env.step(a).reward for a in (*MAKE_TARN, "get 1 pel", "craft 2 sulk using 1 tarn, 1 pel")] == [
        0,
        0,
        0,
        0,
        1,
    ]


def test_base_items_run_out() -> None:
    env = playing(stock=[1, 3, 1, 0])
    assert play(env, "get 2 oriv", "get 2 oriv", "get 1 oriv", "get 1 oriv", "get 1 tiv") == [
        "You took 2 oriv.",
        "There are only 1 oriv left.",
        "You took 1 oriv.",
        "There is no oriv left.",
        "There is no tiv left.",
    ]


def test_a_goal_can_be_lost_where_base_items_run_out() -> None:
    env = playing(stock=[1, 2, 0, 1])
    plan = env.oracle()
    assert plan == [
        "get 2 oriv",
        "get 1 mel",
        "craft 1 tarn using 2 oriv, 1 mel",
        "get 1 tiv",
        "craft 2 sulk using 1 tarn, 1 tiv",
    ]
    play(env, *MAKE_TARN)
    before = env.snapshot()
    play(env, "craft 1 kabe using 1 tarn")
    assert env.oracle() is None
    env.restore(before)
    assert [env.step(a).reward for a in env.oracle() or []][-1] == 1


def test_a_wrong_craft_loses_what_was_put_in_only_where_the_task_says_so() -> None:
    env = playing(spoils=True)
    play(env, "get 2 oriv", "get 1 pel")
    step = env.step("craft 1 tarn using 2 oriv, 1 pel")
    assert (step.observation, step.info["executed"]) == (
        "1 tarn takes 1 mel, not 0. You lost 2 oriv, 1 pel.",
        True,
    )
    assert play(env, "inventory", "craft 1 tarn using 1 mel") == [
        "You have nothing.",
        "You have 0 mel, not 1.",
    ]


def test_reflect_changes_nothing() -> None:
    env = playing()
    play(env, *MAKE_TARN)
    state = env.state_hash()
    for action in ("reflect", "Reflect", "reflect: I took the wrong item"):
        step = env.step(action)
        assert (step.observation, step.reward, step.done, step.info) == (
            "Noted.",
            0.5,
            False,
            {"executed": True},
        )
    assert env.state_hash() == state


def test_equal_states_have_equal_hashes_and_others_have_others() -> None:
    env = playing()
    play(env, "get 1 mel", "get 2 oriv")
    a = env.state_hash()
    env = playing()
    play(env, "get 1 oriv", "inventory", "get 9 iron", "get 1 mel", "get 1 oriv")
    assert env.state_hash() == a
    play(env, "get 1 mel")
    assert env.state_hash() != a


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    env = playing()
    play(env, *MAKE_TARN, "craft 1 tarn using 5 oriv", "craft 1 tarn using", "get 0 x", "nonsense")
    assert capfd.readouterr() == ("", "")


def test_each_registered_environment_has_every_part_of_the_protocol() -> None:
    from pipeline import registry
    from stages.environments import Environment

    assert registry.names("environment") == ["crafting", "scienceworld", "textworld_express"]
    for name in registry.names("environment"):
        cls = registry.resolve("environment", name)
        assert issubclass(cls, Environment) and not cls.__abstractmethods__ and cls.name == name
    assert make("stages.environments.crafting:Crafting").name == "crafting"


WORLDS = crafting(depth=[1, 4], scarce=True, irrecoverable=True, families=2, tasks={"train": 40})
TASKS = list(WORLDS.tasks("train"))


@st.composite
def action_texts(draw: st.DrawFn) -> list[str]:
    """Right and wrong actions of all kinds with the names of a task; "plan" is the next step to the goal."""
    names = st.sampled_from(["A", "B", "C", "D", "E", "F", "G", "zzz"])
    counted = st.builds("{} {}".format, st.integers(0, 4), names)
    get = counted.map("get {}".format)
    craft = st.builds(
        "craft {} using {}".format, counted, st.lists(counted, min_size=1, max_size=3).map(", ".join)
    )
    return draw(
        st.lists(
            st.one_of(
                get,
                get,
                craft,
                st.sampled_from(["plan", "plan", "plan", "inventory", "reflect"]),
                st.text(max_size=8),
            ),
            max_size=25,
        )
    )


def told(env: Crafting, task: EnvTask, texts: list[str]) -> list[tuple[object, ...]]:
    """Do the actions and return all that can be seen of them."""
    names = sorted({*task.spec["base"], *(recipe[0] for recipe in task.spec["recipes"])})
    seen: list[tuple[object, ...]] = []
    for text in texts:
        for i, letter in enumerate("ABCDEFG"):
            text = text.replace(f" {letter}", f" {names[i % len(names)]}")
        if text == "plan":
            text = (env.oracle() or ["inventory"])[0]
        step = env.step(text)
        seen.append(
            (
                text,
                step.observation,
                step.reward,
                step.done,
                step.info["executed"],
                env.state_hash(),
                env.oracle(),
            )
        )
    return seen


@given(st.sampled_from(TASKS), action_texts(), action_texts(), action_texts())
@settings(max_examples=60)
def test_restoring_is_exact(task: EnvTask, before: list[str], aside: list[str], after: list[str]) -> None:
    """What follows a snapshot is the same whatever was done in between, and rewards never fall."""
    WORLDS.reset(task)
    told(WORLDS, task, before)
    state = WORLDS.snapshot()
    expected = told(WORLDS, task, after)
    WORLDS.restore(state)
    told(WORLDS, task, aside)
    WORLDS.restore(state)
    assert told(WORLDS, task, after) == expected
    assert expected == sorted(expected, key=lambda seen: seen[2])
    assert all(n > 0 for n in WORLDS.snapshot().inventory.values())


def test_the_rules_are_short_and_say_what_the_options_change() -> None:
    plain = crafting().rules
    hard = crafting(scarce=True, irrecoverable=True).rules
    assert "get 2 ITEM" in plain and "run out" not in plain and "run out" in hard and "loses" in hard
    assert "any X" not in crafting(families=0).rules
    assert len(hard) < 480  # under 150 tokens of the packaged model's tokenizer
