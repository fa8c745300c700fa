// pocket-clip's tokenizer in plain JavaScript: lower case, words and punctuation, byte-pair merges (chapter 1).
"use strict";

const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const PIECES = new RegExp(`[${WORD}]+|[^${WORD}\\p{White_Space}]+`, "gu");

/** Merge the letters of a word, always the pair that was merged first in training, until no pair is known. */
function mergePairs(word, tokenizer) {
  const ranks = (tokenizer.ranks ??= new Map(tokenizer.merges.map((pair, rank) => [pair.join(" "), rank])));
  const parts = [...word].map((letter) => (letter in tokenizer.vocab ? letter : "<unk>"));
  for (;;) {
    let best = -1, lowest = Infinity;
    for (let at = 0; at + 1 < parts.length; at++) {
      const rank = ranks.get(`${parts[at]} ${parts[at + 1]}`) ?? Infinity;
      if (rank < lowest) [best, lowest] = [at, rank];
    }
    if (best < 0) return parts;
    parts.splice(best, 2, parts[best] + parts[best + 1]);
  }
}

/** A text -> its tokens with BOS and EOS, at most `maxLen`. Special tokens that the text itself contains stay whole. */
function tokenize(text, tokenizer) {
  const tokens = [];
  for (const span of text.split(/(<pad>|<s>|<unk>|<\/s>)/)) {
    if (/^<(pad|s|unk|\/s)>$/.test(span)) tokens.push(span);
    else {
      const lower = [...span].map((letter) => letter.toLowerCase()).join("");
      for (const word of lower.match(PIECES) ?? []) tokens.push(...mergePairs(word, tokenizer));
    }
  }
  return ["<s>", ...tokens.slice(0, tokenizer.maxLen - 2), "</s>"];
}
