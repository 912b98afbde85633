// Hold ONNX Runtime for JavaScript against the conformance cases of an artifact: node conformance/run.mjs
// Needs onnxruntime-node and @huggingface/transformers. For a runtime of your own, replace session and tokenizer; a
// case's prompt, where it has one, stands before its text.
import { readFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { AutoTokenizer, env } from "@huggingface/transformers";
import * as ort from "onnxruntime-node";

process.env.ORT_DISABLE_TELEMETRY ||= "1"; // before its first session: it would report to its maker
const folder = resolve(process.argv[2] ?? resolve(dirname(fileURLToPath(import.meta.url)), ".."));
const stated = JSON.parse(readFileSync(`${folder}/conformance/cases.json`, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const tokenizer = await AutoTokenizer.from_pretrained(basename(folder));
const session = await ort.InferenceSession.create(`${folder}/${stated.graph}`);
const bar = stated.tolerance;
const { max_length: longest, direction } = stated.truncation;
// transformers.js cuts the closing token off with what is too long; here it stays, as the opening one does on the left.
const left = (row) => [row[0], ...row.slice(row.length - longest + 1)];
const right = (row) => [...row.slice(0, longest - 1), row.at(-1)];
const cut = (row) => (row.length > longest ? (direction === "left" ? left(row) : right(row)) : row);
let failures = 0;
const fail = (line) => { failures += 1; console.log(line); };
const within = (value, low, high) => value >= low && value <= high;
const sane = within(bar.absolute, 0, 1e-4) && within(bar.cosine ?? 1, 0.99, 1) && within(bar.norm ?? 0, 0, 0.1);
const most = "at most 1e-4 of each number, or a cosine of at least 0.99 and a norm within a tenth";
if (!sane) fail(`tolerance ${JSON.stringify(bar)}: ${most}`);
const empty = ({ outputs }) => Object.keys(outputs).length === 0;
if (!stated.cases.length || stated.cases.some(empty)) fail("cases without outputs: nothing to be held against");
for (const { name, prompt = "", texts, ids, inputs, outputs } of stated.cases) {
  const [text, text_pair] = texts.map((part) => prompt + part.text.repeat(part.times));
  const encoded = tokenizer(text, { text_pair }).input_ids;
  if (String(cut(Array.from(encoded.data, Number))) !== String(ids)) fail(`${name}: token ids differ`);
  const tensor = (row) => new ort.Tensor("int64", BigInt64Array.from(row, BigInt), [1, row.length]);
  const feeds = Object.fromEntries(Object.entries(inputs).map(([key, row]) => [key, tensor(row)]));
  const results = await session.run(feeds, Object.keys(outputs));
  for (const [key, wanted] of Object.entries(outputs)) {
    const made = Array.from(results[key].data);
    if (made.length !== wanted.length) fail(`${name}: ${key} has ${made.length} numbers, stated are ${wanted.length}`);
    const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
    const off = Math.max(...made.map((value, i) => Math.abs(value - wanted[i])));
    const [length, norm] = [made, wanted].map((row) => Math.sqrt(dot(row, row)));
    const cosine = dot(made, wanted) / Math.max(length * norm, 1e-30);
    const alike = cosine >= (bar.cosine ?? 2) && Math.abs(length - norm) <= (bar.norm ?? 0.1) * norm;
    const how = `off by ${off}, cosine ${cosine}, norm ${length} of ${norm}`;
    if (!(off <= bar.absolute || alike)) fail(`${name}: ${key} is ${how}`);
  }
}
console.log(failures ? `${failures} failures` : "conforms");
process.exitCode = failures ? 1 : 0;
