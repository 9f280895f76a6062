/**
 * Exercise hello-1: say hello.
 *
 * @param {string | undefined} name  who is greeted; undefined when nobody gave a name
 * @returns {string}  "Hello, Ada!" for "Ada", "Hello, world!" without a name
 */
export function greet(name) {
  // Your code goes here.
  return '';
}
