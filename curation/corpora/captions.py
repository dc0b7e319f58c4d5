"""Captions from the name, keywords and rendering of a drawing: varied, plain and true of the picture.

A third are bare names, often a single word, like many alt texts. The others fill a template that the sample's seeded
choices pick among those whose parts exist (some drawings have no tags or no category).
"""

from __future__ import annotations

from curation.corpora.drawing import Drawing, SeededChoices
from curation.corpora.pictures import DrawingStyle

EMOJI = {
    "en": ("{name} emoji", "an emoji: {name}", "{name}, color emoji", "{name} on {ground}", "OpenMoji {name}"),
    "ar": ("رمز تعبيري: {name}",),
    "de": ("Emoji: {name}", "Ein Emoji: {name}"),
    "es": ("emoji: {name}", "un emoji de {name}"),
    "fa": ("ایموجی {name}",),
    "fr": ("émoji : {name}", "un émoji, {name}"),
    "id": ("emoji {name}",),
    "it": ("emoji: {name}", "un'emoji: {name}"),
    "ja": ("{name}の絵文字", "絵文字:{name}"),
    "ko": ("{name} 이모지",),
    "pt": ("emoji: {name}", "um emoji de {name}"),
    "ru": ("эмодзи: {name}", "эмодзи «{name}»"),
    "tr": ("{name} emojisi",),
    "zh": ("{name}表情符号", "表情:{name}"),
}
ICON = (
    "{name} icon",
    "{style} {name} icon",
    "{style} icon: {name}",
    "{name} icon, {ink} on {ground}",
    "{style} {name} icon in {ink}",
    "{ink} {name} on a {ground} background",
    "{name}: {tags}",
    "{tags}, {name}",
    "icon for {tags}",
    "{category} icon: {name}",
    "{name} ({category})",
    "a simple drawing, {name}, {style}",
)
LOGO = (
    "{name} logo",
    "logo of {name}",
    "the {name} logo in {ink}",
    "{name} logo, {ink} on {ground}",
    "{name} brand icon",
    "{name} ({slug})",
)
BARE = 0.35  # share of captions that are the name and nothing else


def caption(drawing: Drawing, look: DrawingStyle, dice: SeededChoices) -> str:
    """Return a caption: one line, never empty."""
    tags = sorted(drawing.keywords, key=lambda tag: dice.roll(f"tag {tag}"))[: dice.pick("tags", (2, 3, 4))]
    parts = {
        "name": drawing.name,
        "style": drawing.style,
        "ink": look.ink_name,
        "ground": look.ground_name,
        "tags": ", ".join(tags),
        "category": drawing.category.lower(),
        "slug": drawing.key.partition("-")[2],
    }
    if dice.roll("bare") < BARE:
        return drawing.name
    templates = {"emoji": EMOJI[drawing.language], "icon": ICON, "logo": LOGO}[drawing.kind]
    fitting = [text for text in templates if all(value or f"{{{part}}}" not in text for part, value in parts.items())]
    text = dice.pick("template", fitting).format(**parts)
    return text[0].upper() + text[1:] if dice.roll("capital") < 0.25 else text
