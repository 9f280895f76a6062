export function greet() {
  return 'Hello, world!';
}
