// The two transformers of the page "Try it" in plain JavaScript: chapter 4's item decoder and pocket-clip's text tower.
// Matrices are Float32Arrays, row by row; tools/live.py writes the weights under the names that are used here.
"use strict";

/** T rows of x times a matrix of torch's nn.Linear, (out, in), plus a bias: (T, in) -> (T, out). */
function linear(x, { weight, bias }, inputs) {
  const rows = x.length / inputs, outputs = weight.length / inputs, y = new Float32Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    for (let output = 0; output < outputs; output++) {
      let sum = bias ? bias[output] : 0;
      for (let k = 0; k < inputs; k++) sum += x[row * inputs + k] * weight[output * inputs + k];
      y[row * outputs + output] = sum;
    }
  }
  return y;
}

/** Each row with mean 0 and variance 1, then scaled and shifted by learnt numbers. */
function layerNorm(x, { weight, bias }) {
  const dim = weight.length, y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += dim) {
    const row = x.subarray(start, start + dim);
    const mean = row.reduce((sum, value) => sum + value, 0) / dim;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / dim;
    for (let k = 0; k < dim; k++) y[start + k] = ((row[k] - mean) / Math.sqrt(variance + 1e-5)) * weight[k] + bias[k];
  }
  return y;
}

/** Probabilities of scores. */
function softmax(scores) {
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = scores.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** Causal self-attention: queries, keys and values of T positions side by side, (T, 3 D) -> (T - first, D). */
function attend(qkv, dim, heads, first = 0) {
  const length = qkv.length / (3 * dim), size = dim / heads, y = new Float32Array((length - first) * dim);
  for (let head = 0; head < heads; head++) {
    for (let t = first; t < length; t++) {
      const query = t * 3 * dim + head * size, scores = new Float64Array(t + 1); // of this position and those before it
      for (let s = 0; s <= t; s++) {
        const key = s * 3 * dim + dim + head * size;
        for (let k = 0; k < size; k++) scores[s] += (qkv[query + k] * qkv[key + k]) / Math.sqrt(size);
      }
      softmax(scores).forEach((weight, s) => {
        const value = s * 3 * dim + 2 * dim + head * size;
        for (let k = 0; k < size; k++) y[(t - first) * dim + head * size + k] += weight * qkv[value + k];
      });
    }
  }
  return y;
}

const ACTIVATIONS = {
  gelu: (z) => 0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3))), // GPT-2
  quickGelu: (z) => z / (1 + Math.exp(-1.702 * z)), // CLIP
};

const add = (x, y) => x.map((value, k) => value + y[k]);

/** (T, D) inputs with positions -> (T, D) hidden states: blocks of attention and MLP, each behind a norm, then a norm. */
function transformer(model, inputs) {
  const dim = model.norm.weight.length;
  let x = add(inputs, model.positions);
  for (const block of model.blocks) {
    const qkv = linear(layerNorm(x, block.beforeAttention), block.inputs, dim);
    x = add(x, linear(attend(qkv, dim, model.heads), block.output, dim));
    const inner = linear(layerNorm(x, block.beforeMlp), block.mlpIn, dim).map(ACTIVATIONS[model.activation]);
    x = add(x, linear(inner, block.mlpOut, block.mlpIn.bias.length));
  }
  return layerNorm(x, model.norm);
}

/** Embeddings of some rows, one below the other. */
function lookUp(embeddings, rows, dim) {
  const x = new Float32Array(rows.length * dim);
  rows.forEach((row, t) => x.set(embeddings.subarray(row * dim, (row + 1) * dim), t * dim));
  return x;
}

/** Item decoder: a history, items 1..I with the oldest first, -> P(next item) of items 1..I, at places 0..I - 1. */
function nextItemProbabilities(decoder, history) {
  const dim = decoder.norm.weight.length, numItems = decoder.bias.length;
  const tokens = [numItems + 1, ...history]; // the BOS token is behind the items
  const hidden = transformer(decoder, lookUp(decoder.embeddings, tokens.map((item) => item - 1), dim));
  const items = { weight: decoder.embeddings.subarray(0, numItems * dim), bias: decoder.bias }; // tied weights
  return softmax(linear(hidden.subarray(-dim), items, dim));
}

/** pocket-clip's text tower: token ids -> a vector of length 1, the hidden state at the first EOS token, projected. */
function textVector(tower, ids) {
  const dim = tower.norm.weight.length;
  const hidden = transformer(tower, lookUp(tower.embeddings, ids, dim));
  const end = ids.indexOf(tower.eos);
  const vector = linear(hidden.subarray(end * dim, (end + 1) * dim), { weight: tower.projection }, dim);
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;

/** Decode what tools/live.py wrote: each {"float32": base64} or {"float16": base64} becomes a Float32Array. */
function unpack(tree) {
  if (tree === null || typeof tree !== "object") return tree;
  if (tree.float32 !== undefined) return new Float32Array(bytes(tree.float32));
  if (tree.float16 !== undefined) return Float32Array.from(new Uint16Array(bytes(tree.float16)), fromHalf);
  if (Array.isArray(tree)) return tree.map(unpack);
  return Object.fromEntries(Object.entries(tree).map(([name, part]) => [name, unpack(part)]));
}

/** The same for {"deflated": base64}: compressed float16, first the lower bytes of all numbers, then the upper ones. */
async function inflate(tree) {
  if (tree === null || typeof tree !== "object") return tree;
  const inflated = async ([name, part]) => [name, await inflate(part)];
  if (tree.deflated === undefined) {
    const parts = await Promise.all(Object.entries(tree).map(inflated));
    return Array.isArray(tree) ? parts.map(([, part]) => part) : Object.fromEntries(parts);
  }
  const stream = new Blob([bytes(tree.deflated)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const both = new Uint8Array(await new Response(stream).arrayBuffer()), size = both.length / 2;
  return new Float32Array(size).map((_, k) => HALVES[both[k] | (both[size + k] << 8)]);
}

/** The number of 16 bits: sign, 5 bits of exponent, 10 bits of fraction. Weights are finite. */
function fromHalf(bits) {
  const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
  return bits >> 15 ? -size : size;
}

const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => fromHalf(bits)); // all of them: millions are looked up
