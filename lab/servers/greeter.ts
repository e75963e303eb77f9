/**
 * A server that speaks first, as those of mail and terminals do, in Python. It greets with
 * `220 NAME ready` and answers each line with `250 NAME got LINE`, until the line QUIT.
 */
import type { Host } from '../farm/host.js';
import { type Program, PYTHON } from '../farm/process.js';

const PROGRAM = `
import socketserver, sys, time
name, port, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
class Greeter(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write((text + "\\r\\n").encode("latin1"))
    def handle(self):
        time.sleep(pause)
        self.say("220 " + name + " ready")
        for line in self.rfile:
            text = line.decode("latin1").strip()
            if text == "QUIT":
                return self.say("221 bye")
            self.say("250 " + name + " got " + text)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
with Server(("", port), Greeter) as server:
    print("listening", flush=True)
    server.serve_forever()
`;

/** Starts it on a host; it greets after `pauseMs`. Resolves when it listens. */
export async function startGreeter(host: Host, port: number, pauseMs = 0): Promise<Program> {
  const argv = [PYTHON, '-u', '-c', PROGRAM, host.name, String(port), String(pauseMs / 1000)];
  const program = host.start(`greeter-${host.name}-${port}`, argv);
  await program.waitForLog(/listening/);
  return program;
}
