"""The openai engine on a real local server: what it sends, and what it makes of the reply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chat import Chat
from pipeline.config import OpenaiEngine
from pipeline.engines.base import EngineStatus, Request, Sampling
from pipeline.engines.openai import OpenAIClient
from pipeline.engines.openai_format import apportion, build_body
from pipeline.errors import EngineError
from pipeline.models import ModelRef
from tests.engines.ask_openai import chat, client_of, fixed, outcome
from tests.engines.server import Fault, LocalServer

# What is sent


async def test_messages_go_to_chat_and_prompts_to_completions(server: LocalServer) -> None:
    async with client_of(server.url) as client:
        (of_messages,) = await client.generate(chat("one two"))
        (of_prompt,) = await client.generate(Request(prompt="one two three", prefill=" four"))
        assert client.status() == EngineStatus(0, 0) and client.retries == 0
    assert [seen.path for seen in server.seen] == ["/v1/chat/completions", "/v1/completions"]
    assert server.seen[0].body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "one two"}],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 512,
    }
    assert server.seen[1].body["prompt"] == "one two three four"
    assert "Answer: " in of_messages.text and "Answer: " in of_prompt.text
    assert (of_messages.finish_reason, of_messages.prompt_tokens, of_messages.completion_tokens) == (
        "stop",
        2,
        14,
    )
    assert of_prompt.prompt_tokens == 4 and of_messages.logprobs is None


async def test_the_same_request_gets_the_same_answer_and_another_one_another(server: LocalServer) -> None:
    async with client_of(server.url) as client:
        first, again, other = [await client.generate(chat(text, n=2)) for text in ("a", "a", "b")]
    assert first == again != other and first[0] != first[1]


async def test_prefill_is_the_last_message_and_is_to_be_continued(server: LocalServer) -> None:
    await outcome(server, request=chat("Q", prefill="Let us"))
    body = server.seen[0].body
    assert body["messages"] == [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "Let us"}]
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False


async def test_sampling_fields_under_their_openai_names(server: LocalServer) -> None:
    sampling = Sampling(
        temperature=0,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        repetition_penalty=1.2,
        max_tokens=3,
        stop=("#",),
        seed=4,
    )
    (completion,) = await outcome(server, request=chat(sampling=sampling))
    body = server.seen[0].body
    assert {
        name: body[name]
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "max_tokens",
            "stop",
            "seed",
        )
    } == {
        **sampling.model_dump(
            include={"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"}
        ),
        "stop": ["#"],
    }
    assert completion.finish_reason == "length" and completion.completion_tokens == 3


async def test_json_schema_becomes_a_response_format(server: LocalServer) -> None:
    await outcome(server, request=chat(json_schema={"type": "object"}))
    form = server.seen[0].body["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["schema"] == {"type": "object"}


async def test_extra_fields_are_laid_over_and_null_takes_a_field_away(server: LocalServer) -> None:
    request = chat(sampling=Sampling(extra={"b": 3, "min_tokens": 2}))
    await outcome(
        server, request=request, extra_body={"a": 1, "b": 2, "max_tokens": None, "max_completion_tokens": 9}
    )
    body = server.seen[0].body
    assert (body["a"], body["b"], body["min_tokens"], body["max_completion_tokens"]) == (1, 3, 2, 9)
    assert "max_tokens" not in body


@pytest.mark.parametrize(
    "request_", [chat(sampling=Sampling(logprobs=2)), Request(prompt="Q", sampling=Sampling(logprobs=0))]
)
async def test_logprobs_are_one_number_per_token(server: LocalServer, request_: Request) -> None:
    (completion,) = await outcome(server, request=request_)
    assert completion.logprobs == [-0.125] * completion.completion_tokens
    assert server.seen[0].body["logprobs"] == (True if request_.messages else 0)


async def test_logprobs_that_do_not_come_are_an_error(server: LocalServer) -> None:
    with pytest.raises(EngineError, match="no log-probabilities") as e:
        await outcome(server, fixed("42"), request=chat(sampling=Sampling(logprobs=1)))
    assert not e.value.retryable and server.requests == 1


@pytest.mark.parametrize("request_", [Request(), Request(messages=[], prompt="Q"), chat("\ud800")])
async def test_a_request_that_cannot_be_sent_is_one_bad_request(
    server: LocalServer, request_: Request
) -> None:
    with pytest.raises(EngineError) as e:
        await outcome(server, request=request_)
    assert not e.value.retryable and server.requests == 0


# Several samples


async def test_n_samples_come_in_one_request(server: LocalServer) -> None:
    completions = await outcome(server, request=chat(n=5))
    assert len({c.text for c in completions}) == 5 and server.requests == 1 and server.seen[0].body["n"] == 5


@pytest.mark.parametrize(("max_n", "requests"), [(1, 5), (2, 3), (3, 2)])
async def test_missing_samples_are_asked_for_when_the_endpoint_ignores_n(
    server: LocalServer, max_n: int, requests: int
) -> None:
    server.max_n = max_n
    completions = await outcome(server, request=chat(n=5, sampling=Sampling(seed=10)))
    assert len({c.text for c in completions}) == 5 and server.requests == requests
    assert sorted(seen.body["seed"] for seen in server.seen) == list(range(10, 15, max_n))


async def test_later_samples_of_a_prompt_have_seeds_of_their_own(server: LocalServer) -> None:
    """A method that asks the same prompt again says from which sample on."""
    await outcome(server, request=chat(n=2, sample_index=2, sampling=Sampling(seed=10)))
    assert server.seen[0].body["seed"] == 12


async def test_never_fewer_samples_in_silence(server: LocalServer) -> None:
    with pytest.raises(EngineError, match="gave 3 of 4 samples") as e:
        await outcome(server, fixed("a", "b"), fixed("c"), request=chat(n=4))
    assert e.value.retryable and server.requests == 2


async def test_a_failing_request_for_missing_samples_fails_the_whole(server: LocalServer) -> None:
    server.max_n = 1
    with pytest.raises(EngineError, match="answered 400"):
        await outcome(server, None, None, Fault(400), request=chat(n=3))


async def test_more_samples_than_asked_for_are_left_out(server: LocalServer) -> None:
    assert [c.text for c in await outcome(server, fixed("a", "b", "c"), request=chat(n=2))] == ["a", "b"]


async def test_completion_tokens_are_shared_out_exactly(server: LocalServer) -> None:
    completions = await outcome(server, fixed("a", "bb" * 3, "c"), request=chat(n=3))
    assert [c.completion_tokens for c in completions] == [1, 8, 1]
    assert [c.prompt_tokens for c in completions] == [7, 7, 7]


async def test_logprobs_tell_the_token_counts_of_several_samples(server: LocalServer) -> None:
    completions = await outcome(server, request=chat(n=3, sampling=Sampling(logprobs=0, max_tokens=9)))
    assert (
        [c.completion_tokens for c in completions]
        == [9, 9, 9]
        == [len(c.logprobs or ()) for c in completions]
    )


async def test_without_usage_counts_are_zero(server: LocalServer) -> None:
    completions = await outcome(server, fixed("a", "b", usage=None), request=chat(n=2))
    assert [(c.prompt_tokens, c.completion_tokens) for c in completions] == [(0, 0)] * 2


@given(st.integers(0, 10_000), st.lists(st.integers(0, 500), min_size=1, max_size=12))
def test_apportion_sums_to_the_total(total: int, weights: list[int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total and min(shares) >= 0
    if whole := sum(weights):
        assert all(
            abs(share - total * weight / whole) < 1 for share, weight in zip(shares, weights, strict=True)
        )


def test_build_body_keeps_the_request_as_it_is() -> None:
    request, config = (
        chat(prefill="Let"),
        OpenaiEngine(kind="openai", base_url="http://host/v1", model="tiny", extra_body={"a": 1}),
    )
    assert build_body(request, config, 3)["n"] == 3 and "n" not in build_body(request, config)
    assert len(request.messages or ()) == 1 and config.extra_body == {"a": 1}


# Thoughts and parts


async def test_reasoning_that_comes_apart_is_the_thought(server: LocalServer) -> None:
    for name in ("reasoning_content", "reasoning"):
        message = {"content": "Answer: 7", name: "By counting."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        [answer] = await outcome(server, fixed(choices=choices))
        server.requests = 0
        assert (answer.text, answer.thought) == ("Answer: 7", "By counting.")
        assert answer.to_json()["thought"] == "By counting."
    [plain] = await outcome(server, fixed("Answer: 7"))
    assert plain.thought is None and "thought" not in plain.to_json()


async def test_content_in_parts_is_joined(server: LocalServer) -> None:
    parts = [{"type": "text", "text": "Answer: "}, {"type": "image_url"}, {"type": "text", "text": "7"}]
    choices = [{"index": 0, "message": {"content": parts}, "finish_reason": "stop"}]
    [answer] = await outcome(server, fixed(choices=choices))
    assert answer.text == "Answer: 7"


async def test_variables_of_the_chat_template_are_sent_and_null_takes_them_away(server: LocalServer) -> None:
    config = OpenaiEngine(kind="openai", base_url=server.url, model="tiny")
    model = ModelRef("", "m", "1", chat=Chat(kwargs='{"enable_thinking":false}'))
    body = build_body(chat(), config, template_kwargs={"enable_thinking": False})
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in build_body(Request(prompt="x"), config, template_kwargs={"a": 1})
    config = config.model_copy(update={"extra_body": {"chat_template_kwargs": None}})
    assert "chat_template_kwargs" not in build_body(chat(), config, template_kwargs={"a": 1})
    plain = OpenAIClient.model_name(config, ModelRef("", "m", "1"))
    assert plain == f"tiny@{server.url}" and OpenAIClient.model_name(config, model).startswith(f"{plain}+")
    assert OpenAIClient.create(config, model)._template_kwargs == {"enable_thinking": False}
