exports.crud1 = async (request, response) => {
  // Exercise: write your code here.
  response.status(501).json({ message: "crud-1 is not written yet" });
};
