// Providers of models, played by aimock: its library and the answers are the arguments. It prints its port, and ends with its
// standard input.
import { pathToFileURL } from "node:url";

console.log = console.warn = console.info = () => {};
const [, , library, answers] = process.argv;
const { LLMock } = await import(pathToFileURL(library));
const mock = new LLMock({ port: 0, host: "127.0.0.1", logLevel: "silent" });
mock.loadFixtureFile(answers);
await mock.start();
process.stdout.write(new URL(mock.url).port + "\n");
process.stdin.on("end", () => process.exit(0)).resume();
