import numpy as np
import pytest
import torch

from federation.reasoner.lora import (
    attach_lora,
    base_sha256,
    load_base,
    load_lora,
    lora_weights,
    set_trainable,
)
from federation.reasoner.settings import ReasonerSettings
from tests.fakes.digits import END, N_TOKENS, library_tokenizer
from tests.fakes.language_models import tiny_model

# peft asks a transformers model by a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

SETTINGS = ReasonerSettings(lora_rank=2, lora_alpha=4, lora_targets=("q_proj", "down_proj"))
IDS = torch.tensor([[1, 2, 3]])


def test_fresh_adapters_change_nothing():
    expected = tiny_model()(input_ids=IDS).logits
    adapted = attach_lora(tiny_model(), SETTINGS, seed=0)
    torch.testing.assert_close(adapted(input_ids=IDS).logits, expected)


def test_adapters_start_alike_everywhere_and_leave_torchs_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, other = (lora_weights(attach_lora(tiny_model(), SETTINGS, seed=3)) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert list(one) == list(other) == sorted(one)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_only_adapters_of_the_named_layers_learn():
    adapted = attach_lora(tiny_model(), SETTINGS, seed=0)
    learning = {name for name, one in adapted.named_parameters() if one.requires_grad}
    assert len(learning) == len(lora_weights(adapted)) == 2 * 2 * 2
    assert all("q_proj.lora_" in name or "down_proj.lora_" in name for name in learning)


def test_adapters_can_be_taken_out_and_put_back():
    adapted = attach_lora(tiny_model(), SETTINGS, seed=0)
    before = lora_weights(adapted)
    load_lora(adapted, {name: one + 1 for name, one in before.items()})
    changed = lora_weights(adapted)
    assert all(np.allclose(changed[name], before[name] + 1) for name in before)
    load_lora(adapted, before)
    assert all(np.array_equal(lora_weights(adapted)[name], before[name]) for name in before)


def test_adapters_of_another_model_are_refused_whole():
    adapted = attach_lora(tiny_model(), SETTINGS, seed=0)
    before = lora_weights(adapted)
    wrong = {name: one + 1 for name, one in before.items()}
    wrong[max(wrong)] = wrong[max(wrong)][:, :1]
    with pytest.raises(ValueError, match="another model"):
        load_lora(adapted, wrong)
    assert all(np.array_equal(lora_weights(adapted)[name], before[name]) for name in before)


@pytest.mark.parametrize(("part", "marks"), [("A", {"A"}), ("B", {"B"}), ("both", {"A", "B"})])
def test_one_part_can_learn_alone(part, marks):
    adapted = attach_lora(tiny_model(), SETTINGS, seed=0)
    set_trainable(adapted, part)
    learning = [name for name, one in adapted.named_parameters() if one.requires_grad]
    assert {name.partition(".lora_")[2][0] for name in learning} == marks


def test_one_changed_weight_changes_the_digest():
    base = tiny_model()
    before = base_sha256(base)
    assert before == base_sha256(tiny_model())
    with torch.no_grad():
        base.model.norm.weight[0] += 1e-3
    assert base_sha256(base) != before


def test_the_digest_counts_values_however_they_are_kept(tmp_path):
    tiny_model(n_tokens=N_TOKENS).bfloat16().save_pretrained(tmp_path)
    library_tokenizer().save_pretrained(tmp_path)
    kept, _ = load_base(tmp_path, dtype="auto")
    assert kept.dtype == torch.bfloat16
    assert base_sha256(kept) == base_sha256(load_base(tmp_path)[0])


def test_loads_a_folder(tmp_path):
    tiny_model(n_tokens=N_TOKENS).save_pretrained(tmp_path)
    library_tokenizer().save_pretrained(tmp_path)
    base, tokenizer = load_base(tmp_path)
    assert base_sha256(base) == base_sha256(tiny_model(n_tokens=N_TOKENS))
    assert not base.training
    assert tokenizer.decode([4, 2, END], skip_special_tokens=True).replace(" ", "") == "42"
