/** What a route of an exercise answered: rows, nothing yet, or trouble. */
export function Answer({ call, exercise, children }) {
  if (call.waiting) return <p className="quiet">Looking …</p>;
  if (call.error) return <p className="trouble" role="alert">{call.error}</p>;
  if (!Array.isArray(call.value) || call.value.length === 0) {
    return (
      <p className="empty">
        Nothing to show. This part comes to life with exercise <code>{exercise}</code>.
      </p>
    );
  }
  return children(call.value);
}
