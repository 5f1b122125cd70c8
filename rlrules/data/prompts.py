"""Prompts to train on: chat messages and the columns that scorers read."""

from typing import Annotated, Literal

from pydantic import Field

from rlrules.data.comparisons import ComparisonsConfig
from rlrules.data.constraints import ConstraintPromptsConfig
from rlrules.data.gui import GuiPromptsConfig
from rlrules.data.jigsaw import JigsawPromptsConfig
from rlrules.data.preferences import UltraFeedbackConfig, ultrafeedback_filter
from rlrules.data.prompts_base import CountTokens, Prompts, PromptsConfig, as_messages, prepared
from rlrules.data.rows import Row, read_named
from rlrules.data.rule_collection import RuleCollectionConfig
from rlrules.data.rule_reasoning import RuleReasoningConfig
from rlrules.errors import DataError

__all__ = [
    "AnyPromptsConfig",
    "ComparisonsConfig",
    "ConstraintPromptsConfig",
    "CountTokens",
    "FilePromptsConfig",
    "GuiPromptsConfig",
    "Prompts",
    "PromptsConfig",
    "UltraFeedbackPromptsConfig",
    "as_messages",
]


class ChatPromptsConfig(PromptsConfig):
    """Fields of sources whose prompts are a chat's."""

    system: str | None = Field(None, description="A system message put before every prompt.")


class FilePromptsConfig(ChatPromptsConfig):
    """Any rows with a prompt: a local file or folder, or a data set on the hub."""

    type: Literal["prompts"] = "prompts"
    path: str
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict, description="Our name -> the data's: {prompt: instruction}.")
    where: dict[str, str | int | bool] = Field(default_factory=dict, description="Keep rows with these values.")

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Read the rows.

        Raises:
            DataError: A column is missing, a prompt is neither text nor messages, or nothing is left.
        """
        named, left_out = read_named(self.path, self.split, self.columns, self.where)
        for place, row in named:
            if "prompt" not in row:
                raise DataError(f"{place}: no column 'prompt' (there: {', '.join(row)})")
        return prepared(self, self.path, [row for _, row in named], count_tokens, {"where": left_out}, self.system)


class UltraFeedbackPromptsConfig(ChatPromptsConfig):
    """Prompts of UltraFeedback's preference splits, filtered as in AutoRule (its preprocessing, section 3.1)."""

    type: Literal["ultrafeedback"] = "ultrafeedback"
    path: str = "HuggingFaceH4/ultrafeedback_binarized"
    split: str = "train_prefs"

    def load(self, count_tokens: CountTokens) -> Prompts:
        """Read and filter the rows.

        Raises:
            DataError: The data cannot be had, a row is malformed, or nothing is left.
        """
        pairs = UltraFeedbackConfig(path=self.path, split=self.split).load()
        kept, dropped = ultrafeedback_filter(pairs, count_tokens)
        rows: list[Row] = [{"prompt": list(pair.prompt), "id": pair.id} for pair in kept]
        return prepared(self, self.path, rows, count_tokens, dict(dropped), self.system)


AnyPromptsConfig = Annotated[
    FilePromptsConfig
    | UltraFeedbackPromptsConfig
    | ComparisonsConfig
    | RuleReasoningConfig
    | RuleCollectionConfig
    | GuiPromptsConfig
    | JigsawPromptsConfig
    | ConstraintPromptsConfig,
    Field(discriminator="type"),
]
