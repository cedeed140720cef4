/** Which names the gateway takes; what was written by SQL may be called otherwise, and stays as it is. */

const NAME = /^[A-Za-z][A-Za-z0-9_.:-]{0,63}$/;
const ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

/** The gateway looks closer. */
const NETWORK = /^[0-9A-Fa-f:.]{2,45}(\/[0-9]{1,3})?$/;

const NAME_HINT = "Letters, digits and . _ : -, a letter first, 64 at most.";
const ID_HINT = "Letters, digits and . _ -, a letter or a digit first, 64 at most.";

/**
 * What is wrong with the name of a permission, a quota, a role or a plan; `null`: nothing.
 *
 * @param {string} name
 * @param {string} noun what it is to name
 */
export function nameProblem(name, noun) {
  return name === "" ? `Which ${noun}?` : NAME.test(name) ? null : `No ${noun} is called so. ${NAME_HINT}`;
}

/**
 * What is wrong with a network; `null`: nothing that can be seen here.
 *
 * @param {string} text
 */
export function networkProblem(text) {
  return NETWORK.test(text) ? null : "No network is written so. One such as 10.0.0.0/8, or an address.";
}

/**
 * What is wrong with the id of a user; `null`: nothing.
 *
 * @param {string} id
 */
export function userIdProblem(id) {
  return id === "" ? "A user ID is needed." : ID.test(id) ? null : `No user has such an ID. ${ID_HINT}`;
}
