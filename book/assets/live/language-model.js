// pocket-instruct, a language model of the Llama architecture, in plain JavaScript: the LLM of chapter 6's recurrence.
// Its norm, its positions and its MLP differ from those of chapter 4's transformer; attention is the same.
"use strict";

// The letter that stands for each byte in a byte-level vocabulary: the printed ones for themselves, the others above.
const isPrinted = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
let unprinted = 0;
const LETTERS = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrinted(byte) ? byte : 256 + unprinted++));
const SPECIAL = /(<pad>|<s>|<\/s>|<\|user\|>|<\|assistant\|>|<image>)/;
const GPT2_PIECES = /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** A text -> token ids, without special tokens other than those that it spells out. */
function textToIds(text, tokenizer) {
  const lettersOf = (piece) => Array.from(new TextEncoder().encode(piece), (byte) => LETTERS[byte]).join("");
  const piecesOf = (span) => (span.match(GPT2_PIECES) ?? []).flatMap((piece) => mergePairs(lettersOf(piece), tokenizer));
  const tokens = text.split(SPECIAL).flatMap((span) => (SPECIAL.test(span) ? [span] : piecesOf(span)));
  return tokens.map((token) => tokenizer.vocab[token]);
}

/** Token ids -> their text, without special tokens. */
function idsToText(ids, { vocab }) {
  const tokens = Object.keys(vocab).sort((a, b) => vocab[a] - vocab[b]);
  const letters = ids.map((id) => tokens[id]).filter((token) => !SPECIAL.test(token)).join("");
  return new TextDecoder().decode(Uint8Array.from(letters, (letter) => LETTERS.indexOf(letter))).trim();
}

/** Each row divided by the root of its mean square, then scaled by learnt numbers. */
function rmsNorm(x, { weight }) {
  const dim = weight.length, y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += dim) {
    const square = x.subarray(start, start + dim).reduce((sum, value) => sum + value ** 2, 0) / dim;
    for (let k = 0; k < dim; k++) y[start + k] = (x[start + k] / Math.sqrt(square + 1e-6)) * weight[k];
  }
  return y;
}

/** Rotary positions: turn pairs of numbers of queries and keys, (T, 3 D) in place, by angles that grow with position. */
function rotate(qkv, dim, heads, first) {
  const half = dim / heads / 2;
  for (let row = 0; row < qkv.length / (3 * dim); row++) {
    for (let k = 0; k < half; k++) {
      const angle = (first + row) * 10000 ** (-k / half), cos = Math.cos(angle), sin = Math.sin(angle);
      for (let head = 0; head < 2 * heads; head++) { // of the queries, then of the keys
        const at = row * 3 * dim + head * 2 * half + k, [a, b] = [qkv[at], qkv[at + half]];
        [qkv[at], qkv[at + half]] = [a * cos - b * sin, a * sin + b * cos];
      }
    }
  }
  return qkv;
}

/** Two arrays, one behind the other. */
function joined(a, b) {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Token ids behind those of the cache -> logits of the next token. The cache has each block's queries, keys, values. */
function nextLogits(model, ids, cache) {
  const dim = model.norm.weight.length, first = (cache[0]?.length ?? 0) / (3 * dim);
  let x = lookUp(model.embeddings, ids, dim);
  model.blocks.forEach((block, number) => {
    const qkv = rotate(linear(rmsNorm(x, block.beforeAttention), block.inputs, dim), dim, model.heads, first);
    cache[number] = joined(cache[number] ?? [], qkv);
    x = add(x, linear(attend(cache[number], dim, model.heads, first), block.output, dim));
    const input = rmsNorm(x, block.beforeMlp), up = linear(input, block.up, dim);
    const inner = linear(input, block.gate, dim).map((z, k) => (z / (1 + Math.exp(-z))) * up[k]); // SwiGLU
    x = add(x, linear(inner, block.down, inner.length / ids.length));
  });
  return linear(rmsNorm(x.subarray(-dim), model.norm), { weight: model.embeddings }, dim); // tied weights
}

/** A message -> the reply that the model generates greedily, and its token ids up to EOS. */
function replyTo(model, message) {
  const ids = [], cache = [];
  let read = textToIds(model.prompt.replace("{message}", () => message), model.tokenizer);
  while (ids.length < model.maxNewTokens && ids.at(-1) !== model.eos) {
    const logits = nextLogits(model, read, cache);
    ids.push(logits.indexOf(logits.reduce((a, b) => Math.max(a, b))));
    read = ids.slice(-1);
  }
  return { ids, text: idsToText(ids, model.tokenizer) };
}

/** The message for a block of items' texts: the first one, or an update of a preference. */
function preferenceMessage({ first, update }, texts, preference = "") {
  const line = (text) => text.trim().split(/\s+/).join(" ");
  const lines = texts.map((text) => `- ${line(text)}`).join("\n");
  return (preference ? update : first).replace("{preference}", () => line(preference)).replace("{items}", () => lines);
}
