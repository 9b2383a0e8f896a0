// What a script finds of Node.js. Called once, before the script, with what Baton gives it.
(write, exit, { arguments: given, environment, stdin }) => {
  const text = (value) => {
    if (typeof value === 'string') return value;
    if (value instanceof Error) return `${value.name}: ${value.message}`;
    if (typeof value === 'object' && value !== null) {
      try {
        return JSON.stringify(value) ?? String(value);
      } catch {
        return String(value);
      }
    }
    return typeof value === 'function' ? `[Function: ${value.name}]` : String(value);
  };
  const put = (isError) => (chunk) => (write(isError, text(chunk).toWellFormed()), true);
  const line = (isError) => (...values) => write(isError, values.map(text).join(' ').toWellFormed() + '\n');
  const [log, error] = [line(false), line(true)];
  const process = {
    argv: ['node', 'script.js', ...given],
    env: { ...environment },
    stdin: { fd: 0 },
    stdout: { fd: 1, write: put(false) },
    stderr: { fd: 2, write: put(true) },
    exitCode: undefined,
    exit: (code) => exit(Number(code ?? process.exitCode ?? 0) | 0),
  };
  const fs = {
    readFileSync: (file) => {
      if (file !== 0 && file !== '/dev/stdin') throw new Error(`a script can read its standard input only, not '${file}'`);
      return stdin;
    },
  };
  const modules = { fs, process };
  const hidden = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  hidden('console', { log, info: log, debug: log, warn: error, error, trace: error });
  hidden('process', process);
  hidden('__fs', fs);
  hidden('require', (name) => {
    const found = modules[String(name).replace(/^node:/, '')];
    if (!found) throw new Error(`no module '${name}'; modules are 'node:fs' and 'node:process'`);
    return found;
  });
}
