export function greet(name = 'world') {
  return `Hello, ${name}!`;
}
