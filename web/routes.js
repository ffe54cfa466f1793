// Asks this extension's own routes on the server.
import { api } from "../../scripts/api.js";
import { say } from "./words.js";

// What a route answers: to a GET, or to a POST with a body. Whatever is no answer is thrown with a sentence.
export async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await api.fetchApi(`/personalize${path}`, options);
  } catch (error) {
    throw new Error(say("The server did not answer: {message}", { message: error.message }));
  }
  const said = await answer.json().catch(() => null); // an error of the server's own is a page
  if (!answer.ok || said === null) throw new Error(said?.error?.message ?? say("The server answered {status}.", { status: answer.status }));
  return said;
}
